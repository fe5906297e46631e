// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

contract ReleaseMilestoneTest is KernelTest {
    function test_pays_a_part_less_the_fee() public {
        bytes32 id = _started();
        _record();
        _release(id, 10e6);
        _expectProviderPaid(id, 9_900_000, 100_000, 0);
        _expectMilestone(id, 10e6);
        _assertEvents();
        vm.assertEq(vault.remaining(ESCROW_ID), 15e6);
        _assertState(id, IACTPKernel.State.IN_PROGRESS);
    }

    function test_the_whole_rest_completes_the_escrow() public {
        bytes32 id = _started();
        _record();
        _release(id, AMOUNT);
        _expectProviderPaid(id, 24_750_000, 250_000, AMOUNT);
        _expectMilestone(id, AMOUNT);
        _assertEvents();
    }

    function test_the_smallest_fee_applies_each_time() public {
        bytes32 id = _started();
        _release(id, 1e6);
        _release(id, 1e6);
        _assertBalance(FEE_RECIPIENT, 100_000);
        _expectRevert(REQUESTER, "Fee exceeds amount");
        kernel.releaseMilestone(id, 49_999);
    }

    function test_the_deadline_does_not_matter() public {
        bytes32 id = _started();
        vm.warp(DEADLINE + 1);
        _release(id, AMOUNT);
        _assertBalance(address(vault), 0);
    }

    function test_settling_pays_the_rest() public {
        bytes32 id = _started();
        _release(id, 10e6);
        _move(PROVIDER, id, IACTPKernel.State.DELIVERED);
        _move(REQUESTER, id, IACTPKernel.State.SETTLED);
        _assertBalance(PROVIDER, 1_000e6 + 9_900_000 + 14_850_000);
        _assertBalance(FEE_RECIPIENT, 250_000);
    }

    function test_reverts_for_each_reason_in_this_order() public {
        _fails(STRANGER, keccak256("unknown"), 0, "Tx missing");
        bytes32 id = _committed();
        _fails(STRANGER, id, 0, "Not in progress");
        _move(PROVIDER, id, IACTPKernel.State.IN_PROGRESS);
        _fails(STRANGER, id, 0, "Only requester");
        _fails(PROVIDER, id, 0, "Only requester");
        _fails(REQUESTER, id, 0, "Amount zero");
        _fails(REQUESTER, id, AMOUNT + 1, "Insufficient escrow");
        kernel.approveEscrowVault(address(vault), false);
        _fails(REQUESTER, id, AMOUNT, "Vault not approved");
    }

    function testFuzz_parts_and_the_rest_are_the_amount(uint256 part) public {
        part = 50_000 + part % (AMOUNT - 100_000 + 1);
        bytes32 id = _started();
        _release(id, part);
        _move(PROVIDER, id, IACTPKernel.State.DELIVERED);
        _move(REQUESTER, id, IACTPKernel.State.SETTLED);

        uint256 fees = _fee(part) + _fee(AMOUNT - part);
        _assertBalance(FEE_RECIPIENT, fees);
        _assertBalance(PROVIDER, 1_000e6 + AMOUNT - fees);
        _assertBalance(address(vault), 0);
    }

    function _release(bytes32 id, uint256 amount) private {
        vm.prank(REQUESTER);
        kernel.releaseMilestone(id, amount);
    }

    function _fails(address who, bytes32 id, uint256 amount, string memory reason) private {
        _expectRevert(who, reason);
        kernel.releaseMilestone(id, amount);
    }

    function _expectMilestone(bytes32 id, uint256 amount) private {
        _expectKernel(
            "EscrowMilestoneReleased",
            IACTPKernel.EscrowMilestoneReleased.selector,
            id,
            abi.encode(amount, block.timestamp)
        );
    }
}

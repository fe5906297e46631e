// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

/// @notice From DELIVERED; what the admin decides after a dispute is in another file.
contract TransitionStateSettledTest is KernelTest {
    IACTPKernel.State private constant SETTLED = IACTPKernel.State.SETTLED;
    IACTPKernel.State private constant DELIVERED = IACTPKernel.State.DELIVERED;

    function test_the_requester_settles_at_once() public {
        bytes32 id = _delivered();
        _record();
        _move(REQUESTER, id, SETTLED);
        _expectTransition(id, DELIVERED, SETTLED, REQUESTER);
        _expectProviderPaid(id, 24_750_000, 250_000, AMOUNT);
        _assertEvents();

        _assertBalance(PROVIDER, 1_000e6 + 24_750_000);
        _assertBalance(FEE_RECIPIENT, 250_000);
        _assertBalance(address(vault), 0);
        vm.assertEq(vault.remaining(ESCROW_ID), 0);
    }

    function test_anyone_settles_after_the_window() public {
        bytes32 id = _delivered();
        vm.warp(START + 2 days + 1);
        _record();
        _move(STRANGER, id, SETTLED);
        _expectTransition(id, DELIVERED, SETTLED, STRANGER);
        _expectProviderPaid(id, 24_750_000, 250_000, AMOUNT);
        _assertEvents();
    }

    function test_the_deadline_does_not_matter() public {
        bytes32 id = _delivered();
        vm.warp(DEADLINE + 365 days);
        _move(PROVIDER, id, SETTLED);
        _assertState(id, SETTLED);
    }

    function test_up_to_the_windows_last_second_only_the_requester_settles() public {
        bytes32 id = _delivered();
        vm.warp(START + 2 days);
        _failsToMove(PROVIDER, id, SETTLED, "Requester decision pending");
        _failsToMove(STRANGER, id, SETTLED, "Not authorized to settle");
        _failsToMove(address(this), id, SETTLED, "Not authorized to settle");
        _move(REQUESTER, id, SETTLED);
    }

    function test_the_archives_share_passes_through_the_kernel() public {
        kernel.setArchiveTreasury(ARCHIVE);
        bytes32 id = _delivered();
        _record();
        _move(REQUESTER, id, SETTLED);
        _expectTransition(id, DELIVERED, SETTLED, REQUESTER);
        _expectPayout(PROVIDER, 24_750_000);
        _expectKernel(
            "EscrowReleased",
            IACTPKernel.EscrowReleased.selector,
            id,
            abi.encode(PROVIDER, uint256(24_750_000), START)
        );
        _expectPayout(address(kernel), 250);
        _expectTransfer(address(kernel), ARCHIVE, 250);
        _expectFee(id, 249_750, AMOUNT);
        _assertEvents();

        _assertBalance(ARCHIVE, 250);
        _assertBalance(FEE_RECIPIENT, 249_750);
        _assertBalance(address(kernel), 0);
    }

    function test_the_smallest_amount_is_all_fee() public {
        bytes32 id = _delivered(50_000);
        _record();
        _move(REQUESTER, id, SETTLED);
        _expectTransition(id, DELIVERED, SETTLED, REQUESTER);
        _expectFee(id, 50_000, 50_000);
        _assertEvents();
        _assertBalance(PROVIDER, 1_000e6);
    }

    function test_an_escrow_paid_out_in_parts_settles_without_money() public {
        bytes32 id = _started();
        vm.prank(REQUESTER);
        kernel.releaseMilestone(id, AMOUNT);
        _move(PROVIDER, id, DELIVERED);
        _record();
        _move(REQUESTER, id, SETTLED);
        _expectTransition(id, DELIVERED, SETTLED, REQUESTER);
        _assertEvents();
    }

    function test_a_blacklisted_provider_blocks_the_settlement() public {
        bytes32 id = _delivered();
        usdc.blacklist(PROVIDER);
        _failsToMove(REQUESTER, id, SETTLED, "Blacklistable: account is blacklisted");
        usdc.unBlacklist(PROVIDER);
        _move(REQUESTER, id, SETTLED);
    }

    function testFuzz_the_fee_is_one_percent_and_at_least_five_cents(uint256 amount) public {
        amount = 50_000 + amount % (1e15 - 50_000 + 1);
        _fund(REQUESTER, amount);
        bytes32 id = _delivered(amount);
        _move(REQUESTER, id, SETTLED);

        uint256 fee = usdc.balanceOf(FEE_RECIPIENT);
        vm.assertEq(fee, _fee(amount));
        _assertBalance(PROVIDER, 1_000e6 + amount - fee);
        _assertBalance(address(vault), 0);
    }

    function testFuzz_the_archives_share_is_part_of_the_fee(uint256 amount) public {
        kernel.setArchiveTreasury(ARCHIVE);
        amount = 50_000 + amount % (1e15 - 50_000 + 1);
        _fund(REQUESTER, amount);
        bytes32 id = _delivered(amount);
        _move(REQUESTER, id, SETTLED);

        uint256 fee = _fee(amount);
        _assertBalance(ARCHIVE, fee / 1_000);
        _assertBalance(FEE_RECIPIENT, fee - fee / 1_000);
        _assertBalance(PROVIDER, 1_000e6 + amount - fee);
        _assertBalance(address(kernel), 0);
    }
}

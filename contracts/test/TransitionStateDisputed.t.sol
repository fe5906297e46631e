// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

contract TransitionStateDisputedTest is KernelTest {
    IACTPKernel.State private constant DISPUTED = IACTPKernel.State.DISPUTED;

    function test_the_requester_disputes_with_a_bond() public {
        _assertDisputes(REQUESTER, AMOUNT, 1_250_000);
    }

    function test_the_provider_disputes_with_a_bond() public {
        _assertDisputes(PROVIDER, AMOUNT, 1_250_000);
    }

    function test_the_bond_is_at_least_one_usdc() public {
        _assertDisputes(REQUESTER, 19e6, 1e6);
    }

    function test_the_bond_needs_an_allowance() public {
        bytes32 id = _delivered();
        vm.prank(REQUESTER);
        usdc.approve(address(vault), 1_250_000 - 1);
        string memory reason = "ERC20: transfer amount exceeds allowance";
        _failsToMove(REQUESTER, id, DISPUTED, reason);
    }

    function test_any_proof_is_accepted() public {
        bytes32 id = _delivered();
        _move(REQUESTER, id, DISPUTED, abi.encode("reason", "evidence"));
        _assertState(id, DISPUTED);
    }

    function test_reverts_for_each_reason_in_this_order() public {
        bytes32 id = _delivered();
        vm.warp(START + 2 days + 1);
        _failsToMove(STRANGER, id, DISPUTED, "Party only");
        _failsToMove(address(this), id, DISPUTED, "Party only");
        _failsToMove(REQUESTER, id, DISPUTED, "Dispute window closed");
        _failsToMove(PROVIDER, id, DISPUTED, "Dispute window closed");
    }

    function _assertDisputes(address disputer, uint256 amount, uint256 bond) private {
        bytes32 id = _delivered(amount);
        uint256 before = usdc.balanceOf(disputer);
        vm.warp(START + 2 days);
        _record();
        _move(disputer, id, DISPUTED);
        _expectTransfer(disputer, address(vault), bond);
        _expectTransition(id, IACTPKernel.State.DELIVERED, DISPUTED, disputer);
        _expect(
            "DisputeOpened",
            address(kernel),
            IACTPKernel.DisputeOpened.selector,
            id,
            _word(disputer),
            abi.encode(bond, block.timestamp)
        );
        _assertEvents();

        IACTPKernel.TransactionView memory txn = kernel.getTransaction(id);
        vm.assertEq(txn.disputeInitiator, disputer);
        vm.assertEq(txn.disputeBond, bond);
        _assertBalance(disputer, before - bond);
        vm.assertEq(vault.bondBalance(id), bond);
        vm.assertEq(vault.remaining(ESCROW_ID), amount, "a bond is not part of the escrow");
    }
}

// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {EscrowVault} from "../src/EscrowVault.sol";
import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

contract LinkEscrowTest is KernelTest {
    function test_pulls_the_amount_and_commits() public {
        _assertLinks(_create(), IACTPKernel.State.INITIATED);
    }

    function test_links_a_quoted_transaction() public {
        _assertLinks(_quoted(), IACTPKernel.State.QUOTED);
    }

    function test_the_deadline_itself_is_in_time() public {
        bytes32 id = _create();
        vm.warp(DEADLINE);
        _assertLinks(id, IACTPKernel.State.INITIATED);
    }

    function test_stores_what_it_linked() public {
        bytes32 id = _committed();
        IACTPKernel.TransactionView memory txn = kernel.getTransaction(id);
        vm.assertEq(txn.escrowContract, address(vault));
        vm.assertEq(txn.escrowId, ESCROW_ID);
        (bool isActive, uint256 amount) = vault.verifyEscrow(ESCROW_ID, REQUESTER, PROVIDER, AMOUNT);
        vm.assertTrue(isActive, "active");
        vm.assertEq(amount, AMOUNT);
    }

    function test_reverts_for_each_reason_in_this_order() public {
        bytes32 unknown = keccak256("unknown");
        address other = address(new EscrowVault(address(usdc), address(kernel)));
        bytes32 used = keccak256("used");
        bytes32 twin = _create();
        vm.prank(REQUESTER);
        kernel.linkEscrow(twin, address(vault), used);
        bytes32 id = _create();

        _fails(STRANGER, unknown, address(0), bytes32(0), "Escrow addr");
        _fails(STRANGER, unknown, other, bytes32(0), "Invalid escrow ID");
        _fails(STRANGER, unknown, other, used, "Escrow not approved");
        _fails(STRANGER, unknown, address(vault), used, "Escrow ID already used");
        _fails(STRANGER, unknown, address(vault), ESCROW_ID, "Tx missing");
        vm.warp(DEADLINE + 1);
        _fails(STRANGER, twin, address(vault), ESCROW_ID, "Invalid state for linking escrow");
        _fails(STRANGER, id, address(vault), ESCROW_ID, "Only requester");
        _fails(PROVIDER, id, address(vault), ESCROW_ID, "Only requester");
        _fails(REQUESTER, id, address(vault), ESCROW_ID, "Transaction expired");
    }

    function test_the_tokens_own_reasons_come_through() public {
        bytes32 id = _create();
        vm.prank(REQUESTER);
        usdc.approve(address(vault), AMOUNT - 1);
        string memory reason = "ERC20: transfer amount exceeds allowance";
        _fails(REQUESTER, id, address(vault), ESCROW_ID, reason);

        id = _create(1_000e6 + 1);
        vm.prank(REQUESTER);
        usdc.approve(address(vault), type(uint256).max);
        reason = "ERC20: transfer amount exceeds balance";
        _fails(REQUESTER, id, address(vault), ESCROW_ID, reason);

        usdc.blacklist(REQUESTER);
        reason = "Blacklistable: account is blacklisted";
        _fails(REQUESTER, id, address(vault), ESCROW_ID, reason);

        usdc.pause();
        _fails(REQUESTER, id, address(vault), ESCROW_ID, "Pausable: paused");
        _assertState(id, IACTPKernel.State.INITIATED);
    }

    function test_a_failed_link_uses_no_escrow_id() public {
        bytes32 id = _create();
        usdc.pause();
        _fails(REQUESTER, id, address(vault), ESCROW_ID, "Pausable: paused");
        usdc.unpause();
        _link(id);
        _assertState(id, IACTPKernel.State.COMMITTED);
    }

    function test_an_escrow_id_is_used_for_ever() public {
        bytes32 id = _committed();
        _move(PROVIDER, id, IACTPKernel.State.CANCELLED);
        id = _create();
        _fails(REQUESTER, id, address(vault), ESCROW_ID, "Escrow ID already used");

        address other = address(new EscrowVault(address(usdc), address(kernel)));
        kernel.approveEscrowVault(other, true);
        _fails(REQUESTER, id, other, ESCROW_ID, "Escrow ID already used");
    }

    function test_a_stranger_can_take_an_escrow_id_that_it_knows() public {
        bytes32 id = _create();
        _fund(STRANGER, 1e6);
        vm.prank(STRANGER);
        bytes32 foreign = kernel.createTransaction(
            PROVIDER, STRANGER, 50_000, DEADLINE, WINDOW, bytes32(0), 0, 0
        );
        vm.prank(STRANGER);
        kernel.linkEscrow(foreign, address(vault), id);
        _fails(REQUESTER, id, address(vault), id, "Escrow ID already used");
    }

    function test_a_foreign_create_shifts_the_predicted_ids() public {
        bytes32 predicted =
            keccak256(abi.encodePacked(REQUESTER, PROVIDER, AMOUNT, SERVICE, uint256(0)));
        _create(AMOUNT + 1);
        vm.assertNotEq(_create(), predicted);
        _fails(REQUESTER, predicted, address(vault), ESCROW_ID, "Tx missing");
    }

    function _assertLinks(bytes32 id, IACTPKernel.State from) private {
        _record();
        _link(id);
        _expectTransfer(REQUESTER, address(vault), AMOUNT);
        _expectEscrowCreated(AMOUNT);
        _expectKernel(
            "EscrowLinked",
            IACTPKernel.EscrowLinked.selector,
            id,
            abi.encode(address(vault), ESCROW_ID, AMOUNT, block.timestamp)
        );
        _expectTransition(id, from, IACTPKernel.State.COMMITTED, REQUESTER);
        _assertEvents();

        _assertBalance(REQUESTER, 1_000e6 - AMOUNT);
        _assertBalance(address(vault), AMOUNT);
        _assertBalance(address(kernel), 0);
        vm.assertEq(vault.remaining(ESCROW_ID), AMOUNT);
        _assertState(id, IACTPKernel.State.COMMITTED);
    }

    function _fails(
        address who,
        bytes32 id,
        address escrowContract,
        bytes32 escrowId,
        string memory reason
    ) private {
        _expectRevert(who, reason);
        kernel.linkEscrow(id, escrowContract, escrowId);
    }
}

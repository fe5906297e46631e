// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {EscrowVault} from "../src/EscrowVault.sol";
import {IEscrowVault} from "../src/interfaces/IEscrowVault.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

/// @notice The vault by itself; this contract is the kernel of `own`.
contract EscrowVaultTest is KernelTest {
    EscrowVault private own;

    function setUp() public override {
        super.setUp();
        own = new EscrowVault(address(usdc), address(this));
        vm.prank(REQUESTER);
        usdc.approve(address(own), type(uint256).max);
    }

    function test_knows_its_token_and_its_kernel() public {
        vm.assertEq(vault.token(), address(usdc));
        vm.assertEq(vault.kernel(), address(kernel));
        vm.expectRevert("Zero token");
        new EscrowVault(address(0), address(kernel));
        vm.expectRevert("Zero kernel");
        new EscrowVault(address(usdc), address(0));
    }

    function test_only_the_kernel_moves_money() public {
        string memory reason = "Only kernel";
        vm.expectRevert(bytes(reason));
        vault.createEscrow(ESCROW_ID, REQUESTER, PROVIDER, AMOUNT);
        vm.expectRevert(bytes(reason));
        vault.payout(ESCROW_ID, STRANGER, AMOUNT);
        vm.expectRevert(bytes(reason));
        vault.payoutToProvider(ESCROW_ID, AMOUNT);
        vm.expectRevert(bytes(reason));
        vault.refundToRequester(ESCROW_ID, AMOUNT);
        vm.expectRevert(bytes(reason));
        vault.lockBond(ESCROW_ID, REQUESTER, AMOUNT);
        vm.expectRevert(bytes(reason));
        vault.releaseBond(ESCROW_ID, STRANGER);
    }

    function test_an_unknown_escrow_is_empty() public {
        vm.assertEq(own.remaining(ESCROW_ID), 0);
        (bool isActive, uint256 amount) = own.verifyEscrow(ESCROW_ID, REQUESTER, PROVIDER, 0);
        vm.assertEq(isActive, false);
        vm.assertEq(amount, 0);
        vm.expectRevert("Insufficient escrow");
        own.payout(ESCROW_ID, STRANGER, 1);
    }

    function test_pays_parts_and_is_completed_by_the_last() public {
        own.createEscrow(ESCROW_ID, REQUESTER, PROVIDER, 10e6);
        vm.assertEq(own.payoutToProvider(ESCROW_ID, 3e6), 3e6);
        vm.assertEq(own.refundToRequester(ESCROW_ID, 2e6), 2e6);
        _assertEscrow(5e6, true);

        _record();
        vm.assertEq(own.payout(ESCROW_ID, STRANGER, 5e6), 5e6);
        _expect(
            "EscrowCompleted",
            address(own),
            IEscrowVault.EscrowCompleted.selector,
            ESCROW_ID,
            abi.encode(uint256(10e6))
        );
        _expectTransfer(address(own), STRANGER, 5e6);
        _expect(
            "EscrowPayout",
            address(own),
            IEscrowVault.EscrowPayout.selector,
            ESCROW_ID,
            _word(STRANGER),
            abi.encode(uint256(5e6))
        );
        _assertEvents();
        _assertEscrow(10e6, false);
        _assertBalance(PROVIDER, 1_003e6);
        _assertBalance(REQUESTER, 992e6);
    }

    function test_verify_compares_the_parties_and_the_amount() public {
        own.createEscrow(ESCROW_ID, REQUESTER, PROVIDER, 10e6);
        _assertVerified(REQUESTER, PROVIDER, 10e6, true);
        _assertVerified(STRANGER, PROVIDER, 10e6, false);
        _assertVerified(REQUESTER, STRANGER, 10e6, false);
        _assertVerified(REQUESTER, PROVIDER, 10e6 - 1, false);
        own.payoutToProvider(ESCROW_ID, 10e6);
        _assertVerified(REQUESTER, PROVIDER, 10e6, false);
    }

    function test_never_pays_more_than_was_paid_in() public {
        own.createEscrow(ESCROW_ID, REQUESTER, PROVIDER, 10e6);
        own.createEscrow(keccak256("other"), REQUESTER, PROVIDER, 10e6);
        vm.expectRevert("Insufficient escrow");
        own.payoutToProvider(ESCROW_ID, 10e6 + 1);
        vm.expectRevert("Amount zero");
        own.payoutToProvider(ESCROW_ID, 0);
    }

    function test_an_id_is_used_once() public {
        own.createEscrow(ESCROW_ID, REQUESTER, PROVIDER, 10e6);
        own.refundToRequester(ESCROW_ID, 10e6);
        vm.expectRevert("Escrow exists");
        own.createEscrow(ESCROW_ID, REQUESTER, PROVIDER, 10e6);
        vm.expectRevert("Amount zero");
        own.createEscrow(keccak256("other"), REQUESTER, PROVIDER, 0);
    }

    function test_a_bond_is_held_once_and_paid_once() public {
        own.lockBond(ESCROW_ID, REQUESTER, 1e6);
        vm.assertEq(own.bondBalance(ESCROW_ID), 1e6);
        vm.expectRevert("Bond exists");
        own.lockBond(ESCROW_ID, REQUESTER, 1e6);
        vm.expectRevert("Amount zero");
        own.lockBond(keccak256("other"), REQUESTER, 0);
        vm.assertEq(own.releaseBond(ESCROW_ID, PROVIDER), 1e6);
        vm.assertEq(own.releaseBond(ESCROW_ID, PROVIDER), 0);
        _assertBalance(PROVIDER, 1_001e6);
    }

    function _assertEscrow(uint256 released, bool active) private view {
        (address requester, address provider, uint256 amount, uint256 out, bool isActive) =
            own.escrows(ESCROW_ID);
        vm.assertEq(requester, REQUESTER);
        vm.assertEq(provider, PROVIDER);
        vm.assertEq(amount, 10e6);
        vm.assertEq(out, released);
        vm.assertEq(isActive, active);
        vm.assertEq(own.remaining(ESCROW_ID), 10e6 - released);
    }

    function _assertVerified(address requester, address provider, uint256 amount, bool expected)
        private
        view
    {
        (bool isActive, uint256 escrowAmount) =
            own.verifyEscrow(ESCROW_ID, requester, provider, amount);
        vm.assertEq(isActive, expected);
        vm.assertEq(escrowAmount, 10e6);
    }
}

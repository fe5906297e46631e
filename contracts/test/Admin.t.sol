// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ACTPKernel} from "../src/ACTPKernel.sol";
import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

/// @notice The constructor and the settings.
contract AdminTest is KernelTest {
    function test_the_constructor_sets_the_roles() public {
        vm.assertEq(kernel.admin(), address(this));
        vm.assertEq(kernel.pauser(), PAUSER);
        vm.assertEq(kernel.feeRecipient(), FEE_RECIPIENT);
        vm.assertEq(kernel.archiveTreasury(), address(0));
        vm.expectRevert("Zero admin");
        new ACTPKernel(address(0), PAUSER, FEE_RECIPIENT);
        vm.expectRevert("Zero pauser");
        new ACTPKernel(STRANGER, address(0), FEE_RECIPIENT);
        vm.expectRevert("Zero fee recipient");
        new ACTPKernel(STRANGER, PAUSER, address(0));
    }

    function test_approve_escrow_vault() public {
        _record();
        kernel.approveEscrowVault(STRANGER, true);
        _expectKernel(
            "EscrowVaultApproved",
            IACTPKernel.EscrowVaultApproved.selector,
            _word(STRANGER),
            abi.encode(true)
        );
        _assertEvents();
        vm.assertTrue(kernel.approvedEscrowVaults(STRANGER), "approved");
        kernel.approveEscrowVault(STRANGER, false);
        vm.assertEq(kernel.approvedEscrowVaults(STRANGER), false);
        vm.expectRevert("Zero vault");
        kernel.approveEscrowVault(address(0), true);
        _expectRevert(PAUSER, "Not admin");
        kernel.approveEscrowVault(STRANGER, true);
    }

    function test_set_archive_treasury() public {
        _record();
        kernel.setArchiveTreasury(ARCHIVE);
        _expect(
            "ArchiveTreasuryUpdated",
            address(kernel),
            IACTPKernel.ArchiveTreasuryUpdated.selector,
            bytes32(0),
            _word(ARCHIVE),
            ""
        );
        _assertEvents();
        vm.assertEq(kernel.archiveTreasury(), ARCHIVE);
        _expectRevert(PAUSER, "Not admin");
        kernel.setArchiveTreasury(STRANGER);
    }

    function test_update_fee_recipient() public {
        _record();
        kernel.updateFeeRecipient(STRANGER);
        _expect(
            "FeeRecipientUpdated",
            address(kernel),
            IACTPKernel.FeeRecipientUpdated.selector,
            _word(FEE_RECIPIENT),
            _word(STRANGER),
            ""
        );
        _assertEvents();
        bytes32 id = _delivered();
        _move(REQUESTER, id, IACTPKernel.State.SETTLED);
        _assertBalance(STRANGER, 250_000);

        vm.expectRevert("Zero fee recipient");
        kernel.updateFeeRecipient(address(0));
        _expectRevert(PAUSER, "Not admin");
        kernel.updateFeeRecipient(STRANGER);
    }
}

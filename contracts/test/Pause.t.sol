// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

contract PauseTest is KernelTest {
    function test_stops_everything_refunds_too() public {
        bytes32 id = _started();
        vm.prank(PAUSER);
        kernel.pause();
        vm.assertTrue(kernel.paused(), "paused");

        string memory reason = "Kernel paused";
        _expectRevert(REQUESTER, reason);
        kernel.createTransaction(PROVIDER, REQUESTER, AMOUNT, DEADLINE, WINDOW, SERVICE, 0, 0);
        _expectRevert(REQUESTER, reason);
        kernel.acceptQuote(id, AMOUNT);
        _expectRevert(REQUESTER, reason);
        kernel.linkEscrow(id, address(0), ESCROW_ID);
        _expectRevert(REQUESTER, reason);
        kernel.releaseMilestone(id, AMOUNT);
        _failsToMove(PROVIDER, id, IACTPKernel.State.CANCELLED, reason);
        vm.assertEq(kernel.getTransaction(id).amount, AMOUNT);

        vm.prank(PAUSER);
        kernel.unpause();
        _move(PROVIDER, id, IACTPKernel.State.CANCELLED);
        _assertBalance(REQUESTER, 1_000e6);
    }

    function test_emits_who_paused() public {
        _record();
        kernel.pause();
        kernel.unpause();
        bytes32 self = _word(address(this));
        _expectKernel("KernelPaused", IACTPKernel.KernelPaused.selector, self, abi.encode(START));
        _expectKernel(
            "KernelUnpaused", IACTPKernel.KernelUnpaused.selector, self, abi.encode(START)
        );
        _assertEvents();
    }

    function test_reverts_for_each_reason() public {
        _expectRevert(STRANGER, "Not pauser");
        kernel.pause();
        _expectRevert(STRANGER, "Not pauser");
        kernel.unpause();
        _expectRevert(PAUSER, "Not paused");
        kernel.unpause();
        kernel.pause();
        _expectRevert(PAUSER, "Already paused");
        kernel.pause();
    }
}

// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

contract TransitionStateDeliveredTest is KernelTest {
    IACTPKernel.State private constant DELIVERED = IACTPKernel.State.DELIVERED;

    function test_the_provider_delivers_and_the_window_is_two_days() public {
        bytes32 id = _started();
        vm.warp(DEADLINE);
        _record();
        _move(PROVIDER, id, DELIVERED);
        _expectTransition(id, IACTPKernel.State.IN_PROGRESS, DELIVERED, PROVIDER);
        _assertEvents();
        vm.assertEq(kernel.getTransaction(id).disputeWindow, DEADLINE + 172_800);
    }

    function test_the_providers_window_overwrites_the_requesters() public {
        _assertWindow(3_600, 3_600);
        _assertWindow(30 days, 30 days);
    }

    function test_a_window_of_zero_is_the_default() public {
        _assertWindow(0, 172_800);
    }

    function test_reverts_for_each_reason_in_this_order() public {
        bytes32 id = _started();
        vm.warp(DEADLINE + 1);
        _failsToMove(REQUESTER, id, DELIVERED, hex"01", "Only provider");
        _failsToMove(PROVIDER, id, DELIVERED, hex"01", "Transaction expired");
        vm.warp(DEADLINE);
        _failsToMove(PROVIDER, id, DELIVERED, hex"01", "Invalid dispute window proof");
        _failsToMove(PROVIDER, id, DELIVERED, new bytes(64), "Invalid dispute window proof");
        _failsToMove(PROVIDER, id, DELIVERED, abi.encode(3_599), "Dispute window too short");
        _failsToMove(PROVIDER, id, DELIVERED, abi.encode(30 days + 1), "Dispute window too long");
    }

    function _assertWindow(uint256 given, uint256 stored) private {
        setUp();
        bytes32 id = _started();
        _move(PROVIDER, id, DELIVERED, abi.encode(given));
        vm.assertEq(kernel.getTransaction(id).disputeWindow, START + stored);
    }
}

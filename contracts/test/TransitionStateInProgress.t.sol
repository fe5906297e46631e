// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

contract TransitionStateInProgressTest is KernelTest {
    IACTPKernel.State private constant IN_PROGRESS = IACTPKernel.State.IN_PROGRESS;

    function test_the_provider_starts_up_to_the_deadline() public {
        bytes32 id = _committed();
        vm.warp(DEADLINE);
        _record();
        _move(PROVIDER, id, IN_PROGRESS);
        _expectTransition(id, IACTPKernel.State.COMMITTED, IN_PROGRESS, PROVIDER);
        _assertEvents();
        _assertState(id, IN_PROGRESS);
    }

    function test_reverts_for_each_reason_in_this_order() public {
        bytes32 id = _committed();
        vm.warp(DEADLINE + 1);
        _failsToMove(REQUESTER, id, IN_PROGRESS, "Only provider");
        _failsToMove(PROVIDER, id, IN_PROGRESS, "Transaction expired");
    }
}

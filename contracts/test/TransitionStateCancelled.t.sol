// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

/// @notice By a party; what the admin decides after a dispute is in another file.
contract TransitionStateCancelledTest is KernelTest {
    IACTPKernel.State private constant CANCELLED = IACTPKernel.State.CANCELLED;
    IACTPKernel.State private constant COMMITTED = IACTPKernel.State.COMMITTED;
    IACTPKernel.State private constant IN_PROGRESS = IACTPKernel.State.IN_PROGRESS;

    function test_before_the_link_the_requester_cancels_at_any_time() public {
        bytes32 id = _create();
        vm.warp(DEADLINE + 1);
        _record();
        _move(REQUESTER, id, CANCELLED);
        _expectTransition(id, IACTPKernel.State.INITIATED, CANCELLED, REQUESTER);
        _assertEvents();
        _failsToMove(REQUESTER, id, CANCELLED, "No-op");

        id = _create2();
        _move(PROVIDER, id, IACTPKernel.State.QUOTED);
        _record();
        _move(REQUESTER, id, CANCELLED);
        _expectTransition(id, IACTPKernel.State.QUOTED, CANCELLED, REQUESTER);
        _assertEvents();
    }

    function test_before_the_link_nobody_else_cancels() public {
        bytes32 id = _create();
        _failsToMove(PROVIDER, id, CANCELLED, "Only requester can cancel");
        _failsToMove(STRANGER, id, CANCELLED, "Only requester can cancel");
        _move(PROVIDER, id, IACTPKernel.State.QUOTED);
        _failsToMove(PROVIDER, id, CANCELLED, "Only requester can cancel");
    }

    function test_the_requester_pays_a_penalty_from_the_deadline_on() public {
        bytes32 id = _committed();
        vm.warp(DEADLINE - 1);
        _failsToMove(REQUESTER, id, CANCELLED, "Deadline not reached");
        vm.warp(DEADLINE);
        _record();
        _move(REQUESTER, id, CANCELLED);
        _expectTransition(id, COMMITTED, CANCELLED, REQUESTER);
        _expectRefund(id, 23_750_000, 0);
        _expectProviderPaid(id, 1_200_000, 50_000, AMOUNT);
        _assertEvents();

        _assertBalance(REQUESTER, 1_000e6 - 1_250_000);
        _assertBalance(PROVIDER, 1_000e6 + 1_200_000);
        _assertBalance(FEE_RECIPIENT, 50_000);
        _assertBalance(address(vault), 0);
    }

    function test_a_penalty_of_the_smallest_fee_leaves_the_provider_nothing() public {
        bytes32 id = _committed(1e6);
        vm.warp(DEADLINE);
        _record();
        _move(REQUESTER, id, CANCELLED);
        _expectTransition(id, COMMITTED, CANCELLED, REQUESTER);
        _expectRefund(id, 950_000, 0);
        _expectFee(id, 50_000, 1e6);
        _assertEvents();
        _assertBalance(PROVIDER, 1_000e6);
    }

    function test_below_one_usdc_only_the_provider_can_free_the_money() public {
        bytes32 id = _committed(1e6 - 1);
        vm.warp(DEADLINE);
        _failsToMove(REQUESTER, id, CANCELLED, "Fee exceeds amount");
        _move(PROVIDER, id, CANCELLED);
        _assertBalance(REQUESTER, 1_000e6);
    }

    function test_the_provider_refunds_in_full_at_any_time() public {
        bytes32 id = _committed();
        _record();
        _move(PROVIDER, id, CANCELLED);
        _expectTransition(id, COMMITTED, CANCELLED, PROVIDER);
        _expectRefund(id, AMOUNT, AMOUNT);
        _assertEvents();
        _assertBalance(REQUESTER, 1_000e6);
        _assertBalance(FEE_RECIPIENT, 0);
    }

    function test_the_provider_refunds_after_it_started() public {
        bytes32 id = _started();
        vm.warp(DEADLINE + 1);
        _record();
        _move(PROVIDER, id, CANCELLED);
        _expectTransition(id, IN_PROGRESS, CANCELLED, PROVIDER);
        _expectRefund(id, AMOUNT, AMOUNT);
        _assertEvents();
    }

    function test_the_provider_refunds_what_milestones_left() public {
        bytes32 id = _started();
        vm.prank(REQUESTER);
        kernel.releaseMilestone(id, 10e6);
        _move(PROVIDER, id, CANCELLED);
        _assertBalance(REQUESTER, 1_000e6 - 10e6);
        _assertBalance(address(vault), 0);
    }

    function test_an_escrow_paid_out_in_parts_is_cancelled_without_money() public {
        bytes32 id = _started();
        vm.prank(REQUESTER);
        kernel.releaseMilestone(id, AMOUNT);
        _record();
        _move(PROVIDER, id, CANCELLED);
        _expectTransition(id, IN_PROGRESS, CANCELLED, PROVIDER);
        _assertEvents();
    }

    function test_strangers_never_cancel() public {
        bytes32 id = _committed();
        vm.warp(DEADLINE);
        _failsToMove(STRANGER, id, CANCELLED, "Party only");
        _failsToMove(address(this), id, CANCELLED, "Party only");
        _move(PROVIDER, id, IN_PROGRESS);
        _failsToMove(STRANGER, id, CANCELLED, "Party only");
    }

    function test_the_requester_never_cancels_started_work() public {
        bytes32 id = _started();
        _failsToMove(REQUESTER, id, CANCELLED, "Cannot cancel after work started");
        vm.warp(DEADLINE + 1);
        _failsToMove(REQUESTER, id, CANCELLED, "Cannot cancel after work started");
    }

    function test_a_blacklisted_requester_blocks_its_refund() public {
        bytes32 id = _committed();
        usdc.blacklist(REQUESTER);
        _failsToMove(PROVIDER, id, CANCELLED, "Blacklistable: account is blacklisted");
    }

    function testFuzz_the_penalty_is_five_percent(uint256 amount) public {
        amount = 1e6 + amount % (1e15 - 1e6 + 1);
        _fund(REQUESTER, amount);
        bytes32 id = _committed(amount);
        vm.warp(DEADLINE);
        _move(REQUESTER, id, CANCELLED);

        uint256 penalty = amount / 20;
        _assertBalance(REQUESTER, 1_000e6 + amount - penalty);
        _assertBalance(PROVIDER, 1_000e6 + penalty - _fee(penalty));
        _assertBalance(FEE_RECIPIENT, _fee(penalty));
        _assertBalance(address(vault), 0);
    }

    function _create2() private returns (bytes32) {
        vm.warp(START);
        return _create();
    }
}

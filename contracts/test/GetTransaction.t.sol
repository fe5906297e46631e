// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

contract GetTransactionTest is KernelTest {
    function test_an_unknown_id_reverts() public {
        vm.expectRevert("Tx missing");
        kernel.getTransaction(keccak256("unknown"));
    }

    function test_the_answer_is_twenty_one_words() public {
        bytes32 id = _create();
        (bool succeeded, bytes memory answer) =
            address(kernel).call(abi.encodeCall(IACTPKernel.getTransaction, (id)));
        vm.assertTrue(succeeded, "answered");
        vm.assertEq(answer.length, 21 * 32);
    }

    function test_the_constants_are_the_deployed_ones() public view {
        vm.assertEq(kernel.platformFeeBps(), 100);
        vm.assertEq(kernel.requesterPenaltyBps(), 500);
        vm.assertEq(kernel.disputeBondBps(), 500);
        vm.assertEq(kernel.MAX_BPS(), 10_000);
        vm.assertEq(kernel.MIN_FEE(), 50_000);
        vm.assertEq(kernel.MIN_TRANSACTION_AMOUNT(), 50_000);
        vm.assertEq(kernel.MAX_TRANSACTION_AMOUNT(), 1e15);
        vm.assertEq(kernel.MIN_DISPUTE_WINDOW(), 3_600);
        vm.assertEq(kernel.MAX_DISPUTE_WINDOW(), 30 days);
        vm.assertEq(kernel.DEFAULT_DISPUTE_WINDOW(), 172_800);
        vm.assertEq(kernel.MAX_DEADLINE(), 365 days);
        vm.assertEq(kernel.MIN_DISPUTE_BOND(), 1e6);
        vm.assertEq(kernel.MAX_MEDIATOR_FEE_BPS(), 1_000);
        vm.assertEq(kernel.ARCHIVE_ALLOCATION_BPS(), 10);
    }
}

// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

contract AcceptQuoteTest is KernelTest {
    function test_sets_the_amount_and_stays_quoted() public {
        bytes32 id = _quoted();
        vm.warp(DEADLINE);
        _record();
        _accept(id, 30e6);
        _expectKernel(
            "QuoteAccepted",
            IACTPKernel.QuoteAccepted.selector,
            id,
            abi.encode(AMOUNT, uint256(30e6), DEADLINE)
        );
        _assertEvents();
        IACTPKernel.TransactionView memory txn = kernel.getTransaction(id);
        vm.assertEq(txn.amount, 30e6);
        vm.assertEq(txn.updatedAt, DEADLINE);
        _assertState(id, IACTPKernel.State.QUOTED);
    }

    function test_the_new_amount_is_what_the_link_pulls() public {
        bytes32 id = _quoted();
        _accept(id, 30e6);
        _link(id);
        _assertBalance(address(vault), 30e6);
    }

    function test_reverts_for_each_reason_in_this_order() public {
        _fails(REQUESTER, keccak256("unknown"), 0, "Tx missing");
        bytes32 id = _create();
        _fails(STRANGER, id, 0, "Not quoted");
        _move(PROVIDER, id, IACTPKernel.State.QUOTED);
        vm.warp(DEADLINE + 1);
        _fails(STRANGER, id, 0, "Only requester");
        _fails(PROVIDER, id, 0, "Only requester");
        _fails(REQUESTER, id, 0, "Expired");
        vm.warp(DEADLINE);
        _fails(REQUESTER, id, 49_999, "Below minimum");
        _fails(REQUESTER, id, 1e15 + 1, "Above maximum");
    }

    function _accept(bytes32 id, uint256 amount) private {
        vm.prank(REQUESTER);
        kernel.acceptQuote(id, amount);
    }

    function _fails(address who, bytes32 id, uint256 amount, string memory reason) private {
        _expectRevert(who, reason);
        kernel.acceptQuote(id, amount);
    }
}

// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

contract TransitionStateQuotedTest is KernelTest {
    IACTPKernel.State private constant QUOTED = IACTPKernel.State.QUOTED;

    function test_the_provider_quotes_without_a_hash() public {
        bytes32 id = _create();
        _record();
        _move(PROVIDER, id, QUOTED);
        _expectTransition(id, IACTPKernel.State.INITIATED, QUOTED, PROVIDER);
        _assertEvents();
        vm.assertEq(kernel.getTransaction(id).metadata, bytes32(0));
    }

    function test_the_quotes_hash_is_kept_up_to_the_deadline() public {
        bytes32 id = _create();
        vm.warp(DEADLINE);
        bytes32 quoteHash = keccak256("quote");
        _move(PROVIDER, id, QUOTED, abi.encode(quoteHash));
        vm.assertEq(kernel.getTransaction(id).metadata, quoteHash);
        vm.assertEq(kernel.getTransaction(id).updatedAt, DEADLINE);
    }

    function test_reverts_for_each_reason_in_this_order() public {
        bytes32 id = _create();
        vm.warp(DEADLINE + 1);
        _failsToMove(REQUESTER, id, QUOTED, hex"01", "Only provider");
        _failsToMove(STRANGER, id, QUOTED, hex"01", "Only provider");
        _failsToMove(PROVIDER, id, QUOTED, hex"01", "Transaction expired");
        vm.warp(DEADLINE);
        _failsToMove(PROVIDER, id, QUOTED, hex"01", "Quote hash must be 32 bytes");
        _failsToMove(PROVIDER, id, QUOTED, new bytes(33), "Quote hash must be 32 bytes");
        _failsToMove(PROVIDER, id, QUOTED, new bytes(32), "Invalid quote hash");
    }
}

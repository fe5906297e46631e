// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

contract CreateTransactionTest is KernelTest {
    function test_the_id_is_known_before_sending() public {
        for (uint256 nonce = 0; nonce < 3; nonce++) {
            vm.assertEq(kernel.requesterNonces(REQUESTER), nonce, "nonce");
            bytes32 id = keccak256(abi.encodePacked(REQUESTER, PROVIDER, AMOUNT, SERVICE, nonce));
            vm.assertEq(_create(), id);
        }
    }

    function test_emits_the_terms_and_stores_them() public {
        _record();
        bytes32 id = _create();
        bytes32[] memory topics = new bytes32[](4);
        topics[0] = IACTPKernel.TransactionCreated.selector;
        topics[1] = id;
        topics[2] = _word(REQUESTER);
        topics[3] = _word(PROVIDER);
        _expect(
            "TransactionCreated",
            address(kernel),
            topics,
            abi.encode(AMOUNT, SERVICE, DEADLINE, START, uint256(7))
        );
        _assertEvents();

        IACTPKernel.TransactionView memory expected = IACTPKernel.TransactionView({
            transactionId: id,
            requester: REQUESTER,
            provider: PROVIDER,
            state: IACTPKernel.State.INITIATED,
            amount: AMOUNT,
            createdAt: START,
            updatedAt: START,
            deadline: DEADLINE,
            serviceHash: SERVICE,
            escrowContract: address(0),
            escrowId: bytes32(0),
            attestationUID: bytes32(0),
            disputeWindow: WINDOW,
            metadata: bytes32(0),
            platformFeeBpsLocked: 100,
            requesterPenaltyBpsLocked: 500,
            disputeBondBpsLocked: 500,
            agentId: 7,
            requesterAgentId: 8,
            disputeInitiator: address(0),
            disputeBond: 0
        });
        vm.assertEq(
            keccak256(abi.encode(kernel.getTransaction(id))), keccak256(abi.encode(expected))
        );
    }

    function test_moves_no_money() public {
        _create();
        _assertBalance(REQUESTER, 1_000e6);
        _assertBalance(address(vault), 0);
    }

    function test_accepts_every_limit_itself() public {
        vm.prank(REQUESTER);
        kernel.createTransaction(PROVIDER, REQUESTER, 50_000, START + 1, 1 hours, bytes32(0), 0, 0);
        vm.prank(REQUESTER);
        kernel.createTransaction(
            PROVIDER, REQUESTER, 1e15, START + 365 days, 30 days, bytes32(0), 0, 0
        );
    }

    function test_reverts_for_each_reason() public {
        _fails("Zero provider", address(0), AMOUNT, DEADLINE, WINDOW);
        _fails("Self-transaction not allowed", REQUESTER, AMOUNT, DEADLINE, WINDOW);
        _fails("Amount below minimum", PROVIDER, 49_999, DEADLINE, WINDOW);
        _fails("Amount exceeds maximum", PROVIDER, 1e15 + 1, DEADLINE, WINDOW);
        _fails("Deadline in past", PROVIDER, AMOUNT, START, WINDOW);
        _fails("Deadline too far", PROVIDER, AMOUNT, START + 365 days + 1, WINDOW);
        _fails("Dispute window too short", PROVIDER, AMOUNT, DEADLINE, 1 hours - 1);
        _fails("Dispute window too long", PROVIDER, AMOUNT, DEADLINE, 30 days + 1);
    }

    function test_only_the_requester_itself_may_create() public {
        _expectRevert(STRANGER, "Requester mismatch");
        kernel.createTransaction(PROVIDER, REQUESTER, AMOUNT, DEADLINE, WINDOW, SERVICE, 0, 0);
    }

    function test_reverts_in_the_order_of_the_checks() public {
        _expectRevert(STRANGER, "Requester mismatch");
        kernel.createTransaction(address(0), REQUESTER, 0, 0, 0, SERVICE, 0, 0);
        _fails("Zero provider", address(0), 0, 0, 0);
        _fails("Self-transaction not allowed", REQUESTER, 0, 0, 0);
        _fails("Amount below minimum", PROVIDER, 0, 0, 0);
        _fails("Amount exceeds maximum", PROVIDER, 1e16, 0, 0);
        _fails("Deadline in past", PROVIDER, AMOUNT, 0, 0);
        _fails("Deadline too far", PROVIDER, AMOUNT, START + 366 days, 0);
        vm.assertEq(kernel.requesterNonces(REQUESTER), 0, "a revert uses no nonce");
    }

    function _fails(
        string memory reason,
        address provider,
        uint256 amount,
        uint256 deadline,
        uint256 window
    ) private {
        _expectRevert(REQUESTER, reason);
        kernel.createTransaction(provider, REQUESTER, amount, deadline, window, SERVICE, 0, 0);
    }
}

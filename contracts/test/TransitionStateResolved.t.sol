// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

/// @notice From DISPUTED to SETTLED or CANCELLED; this contract is the admin.
contract TransitionStateResolvedTest is KernelTest {
    IACTPKernel.State private constant SETTLED = IACTPKernel.State.SETTLED;
    IACTPKernel.State private constant CANCELLED = IACTPKernel.State.CANCELLED;
    IACTPKernel.State private constant DISPUTED = IACTPKernel.State.DISPUTED;
    uint256 private constant BOND = 1_250_000;

    function test_two_amounts_and_the_bond_to_the_requester() public {
        bytes32 id = _disputedBy(PROVIDER);
        _record();
        _resolve(id, abi.encode(10e6, 15e6));
        _expectTransition(id, DISPUTED, SETTLED, address(this));
        _expectRefund(id, 10e6, 0);
        _expectProviderPaid(id, 14_850_000, 150_000, AMOUNT);
        _expectTransfer(address(vault), REQUESTER, BOND);
        _expectResolved(id, PROVIDER, true);
        _assertEvents();

        _assertBalance(REQUESTER, 1_000e6 - AMOUNT + 10e6 + BOND);
        _assertBalance(PROVIDER, 1_000e6 - BOND + 14_850_000);
        _assertBalance(address(vault), 0);
    }

    function test_the_flag_decides_who_gets_the_bond() public {
        bytes32 id = _disputedBy(REQUESTER);
        _resolve(id, abi.encode(0, AMOUNT, false));
        _assertBalance(REQUESTER, 1_000e6 - AMOUNT - BOND);
        _assertBalance(PROVIDER, 1_000e6 + 24_750_000 + BOND);

        setUp();
        id = _disputedBy(REQUESTER);
        _record();
        _resolve(id, abi.encode(AMOUNT, 0, true));
        _expectTransition(id, DISPUTED, SETTLED, address(this));
        _expectRefund(id, AMOUNT, AMOUNT);
        _expectTransfer(address(vault), REQUESTER, BOND);
        _expectResolved(id, REQUESTER, true);
        _assertEvents();
        _assertBalance(REQUESTER, 1_000e6);
        _assertBalance(PROVIDER, 1_000e6);
    }

    function test_a_mediator_is_paid_from_the_escrow() public {
        bytes32 id = _disputedBy(REQUESTER);
        _record();
        _resolve(id, abi.encode(10e6, 12_500_000, MEDIATOR, 2_500_000));
        _expectTransition(id, DISPUTED, SETTLED, address(this));
        _expectRefund(id, 10e6, 0);
        _expectProviderPaid(id, 12_375_000, 125_000, 0);
        _expectCompleted(AMOUNT);
        _expectPayout(MEDIATOR, 2_500_000);
        _expect(
            "EscrowMediatorPaid",
            address(kernel),
            IACTPKernel.EscrowMediatorPaid.selector,
            id,
            _word(MEDIATOR),
            abi.encode(uint256(2_500_000), START)
        );
        _expectTransfer(address(vault), REQUESTER, BOND);
        _expectResolved(id, REQUESTER, true);
        _assertEvents();
        _assertBalance(MEDIATOR, 2_500_000);
    }

    function test_a_mediator_and_the_flag() public {
        bytes32 id = _disputedBy(REQUESTER);
        _resolve(id, abi.encode(0, AMOUNT - 1e6, MEDIATOR, 1e6, false));
        _assertBalance(MEDIATOR, 1e6);
        _assertBalance(PROVIDER, 1_000e6 + 24e6 - 240_000 + BOND);
        _assertBalance(address(vault), 0);
    }

    function test_a_mediators_amount_of_zero_needs_no_mediator() public {
        bytes32 id = _disputedBy(REQUESTER);
        _resolve(id, abi.encode(AMOUNT, 0, address(0), 0));
        _assertBalance(REQUESTER, 1_000e6);
    }

    function test_cancelling_gives_everything_back() public {
        bytes32 id = _disputedBy(PROVIDER);
        vm.warp(DEADLINE + 1);
        _record();
        _move(address(this), id, CANCELLED);
        _expectTransition(id, DISPUTED, CANCELLED, address(this));
        _expectRefund(id, AMOUNT, AMOUNT);
        _expectTransfer(address(vault), PROVIDER, BOND);
        _expectResolved(id, PROVIDER, false);
        _assertEvents();
        _assertBalance(REQUESTER, 1_000e6);
        _assertBalance(PROVIDER, 1_000e6);
        _assertBalance(address(vault), 0);
    }

    function test_cancelling_returns_the_requesters_bond() public {
        bytes32 id = _disputedBy(REQUESTER);
        _record();
        _move(address(this), id, CANCELLED);
        _expectTransition(id, DISPUTED, CANCELLED, address(this));
        _expectRefund(id, AMOUNT, AMOUNT);
        _expectTransfer(address(vault), REQUESTER, BOND);
        _expectResolved(id, REQUESTER, true);
        _assertEvents();
        _assertBalance(REQUESTER, 1_000e6);
    }

    function test_cancelling_with_a_proof_splits_by_it() public {
        bytes32 id = _disputedBy(REQUESTER);
        _move(address(this), id, CANCELLED, abi.encode(20e6, 5e6));
        _assertState(id, CANCELLED);
        _assertBalance(REQUESTER, 1_000e6 - AMOUNT + 20e6);
        _assertBalance(PROVIDER, 1_000e6 + 5e6 - 50_000);
    }

    function test_an_escrow_paid_out_in_parts_leaves_the_bond() public {
        bytes32 id = _started();
        vm.prank(REQUESTER);
        kernel.releaseMilestone(id, AMOUNT);
        _move(PROVIDER, id, IACTPKernel.State.DELIVERED);
        _move(REQUESTER, id, DISPUTED);
        _resolve(id, abi.encode(0, 0));
        _assertBalance(REQUESTER, 1_000e6 - AMOUNT);
        _assertBalance(address(vault), 0);
    }

    function test_only_the_admin_resolves() public {
        bytes32 id = _disputedBy(REQUESTER);
        address[4] memory others = [REQUESTER, PROVIDER, STRANGER, PAUSER];
        for (uint256 i = 0; i < others.length; i++) {
            _failsToMove(others[i], id, SETTLED, "Resolver only");
            _failsToMove(others[i], id, CANCELLED, "Resolver only");
        }
    }

    function test_settling_needs_a_proof() public {
        bytes32 id = _disputedBy(REQUESTER);
        _failsToResolve(id, "", "Dispute resolution requires explicit proof");
    }

    function test_a_proof_of_another_length_is_refused() public {
        bytes32 id = _disputedBy(REQUESTER);
        string memory reason = "Invalid resolution proof";
        _failsToResolve(id, new bytes(32), reason);
        _failsToResolve(id, new bytes(65), reason);
        _failsToResolve(id, new bytes(192), reason);
    }

    function test_all_funds_must_be_distributed() public {
        bytes32 id = _disputedBy(REQUESTER);
        string memory reason = "Must distribute ALL funds";
        _failsToResolve(id, abi.encode(10e6, 15e6 - 1), reason);
        _failsToResolve(id, abi.encode(10e6, 15e6 + 1), reason);
        _failsToResolve(id, abi.encode(AMOUNT, 0, MEDIATOR, 1), reason);
        _failsToResolve(id, abi.encode(type(uint256).max, AMOUNT + 1), reason);
        _failsToResolve(id, abi.encode(AMOUNT + 1, type(uint256).max), reason);
    }

    function test_a_mediator_gets_at_most_a_tenth() public {
        bytes32 id = _disputedBy(REQUESTER);
        bytes memory proof = abi.encode(AMOUNT - 2_500_001, 0, MEDIATOR, 2_500_001);
        _failsToResolve(id, proof, "Mediator fee too high");
        proof = abi.encode(AMOUNT - 1e6, 0, address(0), 1e6);
        _failsToResolve(id, proof, "Zero mediator");
    }

    function test_a_providers_part_below_the_fee_is_refused() public {
        bytes32 id = _disputedBy(REQUESTER);
        _failsToResolve(id, abi.encode(AMOUNT - 49_999, 49_999), "Fee exceeds amount");
    }

    function testFuzz_every_split_leaves_nothing_behind(
        uint256 requesterAmount,
        uint256 mediatorAmount,
        bool providerAtFault
    ) public {
        bytes32 id = _disputedBy(REQUESTER);
        mediatorAmount = mediatorAmount % (AMOUNT / 10 + 1);
        requesterAmount = requesterAmount % (AMOUNT - mediatorAmount - 50_000 + 1);
        uint256 gross = AMOUNT - mediatorAmount - requesterAmount;
        _resolve(id, abi.encode(requesterAmount, gross, MEDIATOR, mediatorAmount, providerAtFault));

        uint256 toRequester = providerAtFault ? BOND : 0;
        _assertBalance(REQUESTER, 1_000e6 - AMOUNT - BOND + requesterAmount + toRequester);
        _assertBalance(PROVIDER, 1_000e6 + gross - _fee(gross) + BOND - toRequester);
        _assertBalance(FEE_RECIPIENT, _fee(gross));
        _assertBalance(MEDIATOR, mediatorAmount);
        _assertBalance(address(vault), 0);
    }

    function _resolve(bytes32 id, bytes memory proof) private {
        _move(address(this), id, SETTLED, proof);
    }

    function _failsToResolve(bytes32 id, bytes memory proof, string memory reason) private {
        _failsToMove(address(this), id, SETTLED, proof, reason);
    }

    function _expectResolved(bytes32 id, address initiator, bool providerAtFault) private {
        bytes32[] memory topics = new bytes32[](4);
        topics[0] = IACTPKernel.DisputeResolved.selector;
        topics[1] = id;
        topics[2] = keccak256(abi.encode(id, initiator));
        topics[3] = _word(initiator);
        _expect(
            "DisputeResolved",
            address(kernel),
            topics,
            abi.encode(providerAtFault, BOND, block.timestamp)
        );
    }
}

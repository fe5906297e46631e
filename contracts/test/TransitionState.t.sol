// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

/// @notice What holds for every transition; each target state has a file of its own.
contract TransitionStateTest is KernelTest {
    uint256 private constant STATES = 8;

    function test_an_unknown_transaction_is_missing() public {
        _failsToMove(REQUESTER, keccak256("unknown"), IACTPKernel.State.CANCELLED, "Tx missing");
    }

    function test_a_state_beyond_the_last_is_refused() public {
        bytes32 id = _create();
        bytes memory data =
            abi.encodeWithSelector(IACTPKernel.transitionState.selector, id, STATES, "");
        vm.prank(REQUESTER);
        (bool succeeded,) = address(kernel).call(data);
        vm.assertEq(succeeded, false);
    }

    function test_the_same_state_is_no_move() public {
        for (uint256 i = 0; i < STATES; i++) {
            setUp();
            IACTPKernel.State state = IACTPKernel.State(i);
            _failsToMove(STRANGER, _inState(state), state, "No-op");
        }
    }

    function test_every_move_that_is_not_listed_is_invalid() public {
        for (uint256 from = 0; from < STATES; from++) {
            setUp();
            bytes32 id = _inState(IACTPKernel.State(from));
            for (uint256 to = 0; to < STATES; to++) {
                if (from == to || _isListed(from, to)) continue;
                _failsToMove(STRANGER, id, IACTPKernel.State(to), "Invalid transition");
            }
        }
    }

    function test_an_unlisted_vault_freezes_refunds_and_payments() public {
        bytes32 id = _committed();
        kernel.approveEscrowVault(address(vault), false);
        _failsToMove(PROVIDER, id, IACTPKernel.State.CANCELLED, "Vault not approved");
        kernel.approveEscrowVault(address(vault), true);
        _move(PROVIDER, id, IACTPKernel.State.IN_PROGRESS);
        _move(PROVIDER, id, IACTPKernel.State.DELIVERED);
        kernel.approveEscrowVault(address(vault), false);
        _failsToMove(REQUESTER, id, IACTPKernel.State.SETTLED, "Vault not approved");
        _failsToMove(REQUESTER, id, IACTPKernel.State.DISPUTED, "Vault not approved");
        kernel.approveEscrowVault(address(vault), true);
        _move(REQUESTER, id, IACTPKernel.State.DISPUTED);
        kernel.approveEscrowVault(address(vault), false);
        _failsToMove(address(this), id, IACTPKernel.State.CANCELLED, "Vault not approved");
    }

    function _isListed(uint256 from, uint256 to) private pure returns (bool) {
        bytes memory moves = hex"0107172327343745466567";
        for (uint256 i = 0; i < moves.length; i++) {
            if (uint8(moves[i]) == from * 16 + to) return true;
        }
        return false;
    }
}

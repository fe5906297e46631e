// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ACTPKernel} from "../src/ACTPKernel.sol";
import {EscrowVault} from "../src/EscrowVault.sol";
import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {IFiatToken} from "../src/interfaces/IFiatToken.sol";
import {KernelTest} from "./KernelTest.sol";
import {vm} from "./Vm.sol";

/// @notice Random purchases: each call moves one of them by a step that its state allows.
contract PurchaseHandler {
    ACTPKernel private immutable _kernel;
    EscrowVault private immutable _vault;
    address private immutable _requester;
    address private immutable _provider;
    address private immutable _admin;
    bytes32[] private _ids;
    uint256 private _now;

    constructor(ACTPKernel kernel, EscrowVault vault, address requester, address provider) {
        _kernel = kernel;
        _vault = vault;
        _requester = requester;
        _provider = provider;
        _admin = msg.sender;
        _now = block.timestamp;
    }

    function create(uint256 amount, bool quoted) external {
        // Few purchases, so that the calls take each of them far.
        if (_ids.length == 8) return;
        amount = 1e6 + amount % 100e6;
        vm.prank(_requester);
        bytes32 id = _kernel.createTransaction(
            _provider, _requester, amount, _now + 1 days, 1 hours, bytes32(0), 0, 0
        );
        if (quoted) _move(_provider, id, IACTPKernel.State.QUOTED, "");
        vm.prank(_requester);
        _kernel.linkEscrow(id, address(_vault), _escrowId(id));
        _ids.push(id);
    }

    function pass(uint256 span) external {
        _now += span % 1 days;
        vm.warp(_now);
    }

    function step(uint256 index, uint256 choice, uint256 share) external {
        if (_ids.length == 0) return;
        bytes32 id = _ids[index % _ids.length];
        IACTPKernel.TransactionView memory txn = _kernel.getTransaction(id);
        if (txn.state == IACTPKernel.State.COMMITTED) _afterCommitted(txn, choice);
        else if (txn.state == IACTPKernel.State.IN_PROGRESS) _afterStarted(txn, choice, share);
        else if (txn.state == IACTPKernel.State.DELIVERED) _afterDelivered(txn, choice);
        else if (txn.state == IACTPKernel.State.DISPUTED) _afterDisputed(txn, choice, share);
    }

    function held() external view returns (uint256 total) {
        for (uint256 i = 0; i < _ids.length; i++) {
            total += _vault.remaining(_escrowId(_ids[i])) + _vault.bondBalance(_ids[i]);
        }
    }

    function _afterCommitted(IACTPKernel.TransactionView memory txn, uint256 choice) private {
        if (_now >= txn.deadline) {
            _move(_requester, txn.transactionId, IACTPKernel.State.CANCELLED, "");
        } else if (choice % 4 == 0) {
            _move(_provider, txn.transactionId, IACTPKernel.State.CANCELLED, "");
        } else {
            _move(_provider, txn.transactionId, IACTPKernel.State.IN_PROGRESS, "");
        }
    }

    function _afterStarted(IACTPKernel.TransactionView memory txn, uint256 choice, uint256 share)
        private
    {
        uint256 left = _vault.remaining(txn.escrowId);
        if (choice % 3 == 0 && left >= 100_000) {
            // At least the smallest fee stays, so that the rest can be settled.
            vm.prank(_requester);
            _kernel.releaseMilestone(txn.transactionId, 50_000 + share % (left - 100_000 + 1));
        } else if (choice % 3 == 1 || _now > txn.deadline) {
            _move(_provider, txn.transactionId, IACTPKernel.State.CANCELLED, "");
        } else {
            _move(_provider, txn.transactionId, IACTPKernel.State.DELIVERED, "");
        }
    }

    function _afterDelivered(IACTPKernel.TransactionView memory txn, uint256 choice) private {
        if (_now > txn.disputeWindow) {
            _move(address(this), txn.transactionId, IACTPKernel.State.SETTLED, "");
        } else if (choice % 3 == 0) {
            _move(_requester, txn.transactionId, IACTPKernel.State.SETTLED, "");
        } else {
            address disputer = choice % 3 == 1 ? _requester : _provider;
            _move(disputer, txn.transactionId, IACTPKernel.State.DISPUTED, "");
        }
    }

    function _afterDisputed(IACTPKernel.TransactionView memory txn, uint256 choice, uint256 share)
        private
    {
        if (choice % 4 == 0) {
            _move(_admin, txn.transactionId, IACTPKernel.State.CANCELLED, "");
            return;
        }
        uint256 left = _vault.remaining(txn.escrowId);
        uint256 gross = 50_000 + share % (left - 50_000 + 1);
        bytes memory proof = abi.encode(left - gross, gross, choice % 2 == 0);
        _move(_admin, txn.transactionId, IACTPKernel.State.SETTLED, proof);
    }

    function _move(address who, bytes32 id, IACTPKernel.State state, bytes memory proof) private {
        vm.prank(who);
        _kernel.transitionState(id, state, proof);
    }

    function _escrowId(bytes32 id) private pure returns (bytes32) {
        return keccak256(abi.encode("escrow", id));
    }
}

contract ConservationTest is KernelTest {
    PurchaseHandler private handler;

    function setUp() public override {
        super.setUp();
        _fund(REQUESTER, 1e15);
        _fund(PROVIDER, 1e15);
        kernel.setArchiveTreasury(ARCHIVE);
        handler = new PurchaseHandler(kernel, vault, REQUESTER, PROVIDER);
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_the_vault_holds_what_is_left_and_the_kernel_nothing() public view {
        _assertBalance(address(vault), handler.held());
        _assertBalance(address(kernel), 0);
    }
}

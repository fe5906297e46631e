// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {ACTPKernel} from "../src/ACTPKernel.sol";
import {EscrowVault} from "../src/EscrowVault.sol";
import {IACTPKernel} from "../src/interfaces/IACTPKernel.sol";
import {IEscrowVault} from "../src/interfaces/IEscrowVault.sol";
import {IFiatToken} from "../src/interfaces/IFiatToken.sol";
import {FiatTokenSetup} from "./FiatTokenSetup.sol";
import {Vm, vm} from "./Vm.sol";

/// @title A kernel and a vault on Circle's token, the steps of a purchase, and expected events
/// @dev This contract is the kernel's admin. Events are compared completely: emitter, topics, data,
///      order and number, from `_record()` to `_assertEvents()`.
abstract contract KernelTest {
    uint256 internal constant START = 1_800_000_000;
    uint256 internal constant AMOUNT = 25e6;
    uint256 internal constant DEADLINE = START + 7 days;
    uint256 internal constant WINDOW = 1 days;
    bytes32 internal constant SERVICE = keccak256("translation");
    bytes32 internal constant ESCROW_ID = keccak256("escrow of the purchase");

    address internal constant REQUESTER = address(0xB0B);
    address internal constant PROVIDER = address(0xCA5E);
    address internal constant STRANGER = address(0x57A);
    address internal constant PAUSER = address(0x9A5);
    address internal constant FEE_RECIPIENT = address(0xFEE);
    address internal constant ARCHIVE = address(0xA2C);
    address internal constant MEDIATOR = address(0x3ED);

    IFiatToken internal usdc;
    ACTPKernel internal kernel;
    EscrowVault internal vault;

    bytes32[] private _expectedDigests;
    string[] private _expectedNames;

    function setUp() public virtual {
        vm.warp(START);
        usdc = FiatTokenSetup.deploy();
        kernel = new ACTPKernel(address(this), PAUSER, FEE_RECIPIENT);
        vault = new EscrowVault(address(usdc), address(kernel));
        kernel.approveEscrowVault(address(vault), true);
        _fund(REQUESTER, 1_000e6);
        _fund(PROVIDER, 1_000e6);
    }

    // Steps

    function _fund(address account, uint256 amount) internal {
        usdc.mint(account, amount);
        vm.prank(account);
        usdc.approve(address(vault), type(uint256).max);
    }

    function _create() internal returns (bytes32) {
        return _create(AMOUNT);
    }

    function _create(uint256 amount) internal returns (bytes32) {
        vm.prank(REQUESTER);
        return
            kernel.createTransaction(PROVIDER, REQUESTER, amount, DEADLINE, WINDOW, SERVICE, 7, 8);
    }

    function _link(bytes32 id) internal {
        vm.prank(REQUESTER);
        kernel.linkEscrow(id, address(vault), ESCROW_ID);
    }

    function _move(address who, bytes32 id, IACTPKernel.State state) internal {
        _move(who, id, state, "");
    }

    function _move(address who, bytes32 id, IACTPKernel.State state, bytes memory proof) internal {
        vm.prank(who);
        kernel.transitionState(id, state, proof);
    }

    function _failsToMove(
        address who,
        bytes32 id,
        IACTPKernel.State state,
        bytes memory proof,
        string memory reason
    ) internal {
        _expectRevert(who, reason);
        kernel.transitionState(id, state, proof);
    }

    function _failsToMove(address who, bytes32 id, IACTPKernel.State state, string memory reason)
        internal
    {
        _failsToMove(who, id, state, "", reason);
    }

    function _expectRevert(address who, string memory reason) internal {
        vm.prank(who);
        vm.expectRevert(bytes(reason));
    }

    function _quoted() internal returns (bytes32 id) {
        id = _create();
        _move(PROVIDER, id, IACTPKernel.State.QUOTED);
    }

    function _committed() internal returns (bytes32) {
        return _committed(AMOUNT);
    }

    function _committed(uint256 amount) internal returns (bytes32 id) {
        id = _create(amount);
        _link(id);
    }

    function _started() internal returns (bytes32) {
        return _started(AMOUNT);
    }

    function _started(uint256 amount) internal returns (bytes32 id) {
        id = _committed(amount);
        _move(PROVIDER, id, IACTPKernel.State.IN_PROGRESS);
    }

    function _delivered() internal returns (bytes32) {
        return _delivered(AMOUNT);
    }

    function _delivered(uint256 amount) internal returns (bytes32 id) {
        id = _started(amount);
        _move(PROVIDER, id, IACTPKernel.State.DELIVERED);
    }

    function _disputedBy(address disputer) internal returns (bytes32 id) {
        id = _delivered();
        _move(disputer, id, IACTPKernel.State.DISPUTED);
    }

    function _inState(IACTPKernel.State state) internal returns (bytes32 id) {
        if (state == IACTPKernel.State.INITIATED) return _create();
        if (state == IACTPKernel.State.QUOTED) return _quoted();
        if (state == IACTPKernel.State.COMMITTED) return _committed();
        if (state == IACTPKernel.State.IN_PROGRESS) return _started();
        if (state == IACTPKernel.State.DELIVERED) return _delivered();
        if (state == IACTPKernel.State.DISPUTED) return _disputedBy(REQUESTER);
        if (state == IACTPKernel.State.SETTLED) {
            id = _delivered();
            _move(REQUESTER, id, state);
        } else {
            id = _create();
            _move(REQUESTER, id, state);
        }
    }

    // Facts

    function _fee(uint256 amount) internal pure returns (uint256) {
        return amount / 100 < 50_000 ? 50_000 : amount / 100;
    }

    function _assertState(bytes32 id, IACTPKernel.State state) internal view {
        vm.assertEq(uint256(kernel.getTransaction(id).state), uint256(state), "state");
    }

    function _assertBalance(address account, uint256 amount) internal view {
        vm.assertEq(usdc.balanceOf(account), amount);
    }

    // Expected events

    function _record() internal {
        delete _expectedDigests;
        delete _expectedNames;
        vm.recordLogs();
    }

    function _assertEvents() internal {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length && i < _expectedDigests.length; i++) {
            bytes32 digest = _digest(logs[i].emitter, logs[i].topics, logs[i].data);
            vm.assertEq(digest, _expectedDigests[i], _expectedNames[i]);
        }
        vm.assertEq(logs.length, _expectedDigests.length, "number of events");
    }

    function _expectTransfer(address from, address to, uint256 amount) internal {
        _expect(
            "Transfer",
            address(usdc),
            IFiatToken.Transfer.selector,
            _word(from),
            _word(to),
            abi.encode(amount)
        );
    }

    /// @dev A payment out of the escrow: the token's event, then the vault's.
    function _expectPayout(address to, uint256 amount) internal {
        _expectTransfer(address(vault), to, amount);
        _expect(
            "EscrowPayout",
            address(vault),
            IEscrowVault.EscrowPayout.selector,
            ESCROW_ID,
            _word(to),
            abi.encode(amount)
        );
    }

    function _expectCompleted(uint256 amount) internal {
        _expect(
            "EscrowCompleted",
            address(vault),
            IEscrowVault.EscrowCompleted.selector,
            ESCROW_ID,
            abi.encode(amount)
        );
    }

    function _expectEscrowCreated(uint256 amount) internal {
        bytes32[] memory topics = new bytes32[](4);
        topics[0] = IEscrowVault.EscrowCreated.selector;
        topics[1] = ESCROW_ID;
        topics[2] = _word(REQUESTER);
        topics[3] = _word(PROVIDER);
        _expect("EscrowCreated", address(vault), topics, abi.encode(amount));
    }

    function _expectTransition(
        bytes32 id,
        IACTPKernel.State from,
        IACTPKernel.State to,
        address who
    ) internal {
        bytes32[] memory topics = new bytes32[](4);
        topics[0] = IACTPKernel.StateTransitioned.selector;
        topics[1] = id;
        topics[2] = bytes32(uint256(from));
        topics[3] = bytes32(uint256(to));
        _expect("StateTransitioned", address(kernel), topics, abi.encode(who, block.timestamp));
    }

    /// @dev The provider's part: payout, EscrowReleased; then the fee: payout, PlatformFeeAccrued.
    /// @param completed The amount of the escrow if this empties it, else zero.
    function _expectProviderPaid(bytes32 id, uint256 net, uint256 fee, uint256 completed) internal {
        _expectPayout(PROVIDER, net);
        _expectKernel(
            "EscrowReleased",
            IACTPKernel.EscrowReleased.selector,
            id,
            abi.encode(PROVIDER, net, block.timestamp)
        );
        _expectFee(id, fee, completed);
    }

    function _expectFee(bytes32 id, uint256 fee, uint256 completed) internal {
        if (completed != 0) _expectCompleted(completed);
        _expectPayout(FEE_RECIPIENT, fee);
        _expect(
            "PlatformFeeAccrued",
            address(kernel),
            IACTPKernel.PlatformFeeAccrued.selector,
            id,
            _word(FEE_RECIPIENT),
            abi.encode(fee, block.timestamp)
        );
    }

    function _expectRefund(bytes32 id, uint256 amount, uint256 completed) internal {
        if (completed != 0) _expectCompleted(completed);
        _expectPayout(REQUESTER, amount);
        _expectKernel(
            "EscrowRefunded",
            IACTPKernel.EscrowRefunded.selector,
            id,
            abi.encode(REQUESTER, amount, block.timestamp)
        );
    }

    function _expectKernel(string memory name, bytes32 topic, bytes32 id, bytes memory data)
        internal
    {
        _expect(name, address(kernel), topic, id, data);
    }

    function _expect(
        string memory name,
        address emitter,
        bytes32 topic,
        bytes32 indexed1,
        bytes memory data
    ) internal {
        bytes32[] memory topics = new bytes32[](2);
        topics[0] = topic;
        topics[1] = indexed1;
        _expect(name, emitter, topics, data);
    }

    function _expect(
        string memory name,
        address emitter,
        bytes32 topic,
        bytes32 indexed1,
        bytes32 indexed2,
        bytes memory data
    ) internal {
        bytes32[] memory topics = new bytes32[](3);
        topics[0] = topic;
        topics[1] = indexed1;
        topics[2] = indexed2;
        _expect(name, emitter, topics, data);
    }

    function _expect(
        string memory name,
        address emitter,
        bytes32[] memory topics,
        bytes memory data
    ) internal {
        _expectedNames.push(name);
        _expectedDigests.push(_digest(emitter, topics, data));
    }

    function _word(address account) internal pure returns (bytes32) {
        return bytes32(uint256(uint160(account)));
    }

    function _digest(address emitter, bytes32[] memory topics, bytes memory data)
        private
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(emitter, topics, data));
    }
}

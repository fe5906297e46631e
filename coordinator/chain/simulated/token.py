"""Circle's FiatToken as the rail sees it: USDC with a minter, a blacklist and a pause."""

from __future__ import annotations

from typing import Any, Final

from coordinator.chain.simulated.authorisations import authorisation_digest, is_signed, packed
from coordinator.chain.simulated.contract import NOBODY, Contract, Frame, Handler, constant, require
from coordinator.chain.simulated.state import Key
from coordinator.domain.typed_data import Domain, domain_separator

# Events of Circle's contract that the shipped interface leaves out.
_MORE_EVENTS: Final = {
    "Mint": [("address", True), ("address", True), ("uint256", False)],
    "MinterConfigured": [("address", True), ("uint256", False)],
    "Blacklisted": [("address", True)],
    "UnBlacklisted": [("address", True)],
    "Pause": [],
    "Unpause": [],
}


class FiatToken(Contract):
    """One account has every role, as after our own deployment."""

    def __init__(self, address: str, admin: str, chain_id: int) -> None:
        self._admin = admin
        self.domain = Domain("USDC", "2", chain_id, address)
        handlers: dict[str, Handler] = {
            "name": constant("USDC"),
            "symbol": constant("USDC"),
            "version": constant("2"),
            "DOMAIN_SEPARATOR": constant(domain_separator(self.domain)),
            "decimals": constant(6),
            "balanceOf": self.balance_of,
            "allowance": self._allowance,
            "approve": self._approve,
            "transfer": self.transfer,
            "transferFrom": self.transfer_from,
            "authorizationState": self._authorisation_state,
            "transferWithAuthorization": self._transfer_authorised,
            "mint": self._mint,
            "configureMinter": self._configure_minter,
            "blacklist": self._blacklist,
            "unBlacklist": self._unblacklist,
            "isBlacklisted": self._is_blacklisted,
            "pause": self._pause,
            "unpause": self._unpause,
            "paused": lambda frame: bool(frame.state.get((self.address, "paused"))),
        }
        roles = ("masterMinter", "blacklister", "pauser", "owner")
        handlers |= {role: constant(admin) for role in roles}
        super().__init__(address, "FiatToken", handlers, more_events=_MORE_EVENTS)

    def balance_key(self, account: str) -> tuple[str, str, str]:
        return (self.address, "balance", account)

    def allowance_key(self, owner: str, spender: str) -> tuple[str, str, str, str]:
        return (self.address, "allowance", owner, spender)

    def minter_key(self, minter: str) -> tuple[str, str, str]:
        return (self.address, "minter", minter)

    def balance_of(self, frame: Frame, account: str) -> int:
        return int(frame.state.get(self.balance_key(account)))

    def _allowance(self, frame: Frame, owner: str, spender: str) -> int:
        return int(frame.state.get(self.allowance_key(owner, spender)))

    def _approve(self, frame: Frame, spender: str, value: int) -> bool:
        # Version 2.2 asks for no account here: a listed one may grant, and be granted to.
        self._check_not_paused(frame)
        require(spender != NOBODY, "ERC20: approve to the zero address")
        frame.state.set(self.allowance_key(frame.sender, spender), value)
        self.emit(frame, "Approval", frame.sender, spender, value)
        return True

    def transfer(self, frame: Frame, to: str, value: int) -> bool:
        self._check_open(frame, frame.sender, to)
        self._move(frame, frame.sender, to, value)
        return True

    def transfer_from(self, frame: Frame, owner: str, to: str, value: int) -> bool:
        self._check_open(frame, frame.sender, owner, to)
        key = self.allowance_key(owner, frame.sender)
        require(value <= frame.state.get(key), "ERC20: transfer amount exceeds allowance")
        self._move(frame, owner, to, value)
        frame.state.add(key, -value)
        return True

    def authorisation_key(self, authoriser: str, nonce: bytes) -> Key:
        return (self.address, "authorisation", authoriser, nonce)

    def _authorisation_state(self, frame: Frame, authoriser: str, nonce: bytes) -> bool:
        return bool(frame.state.get(self.authorisation_key(authoriser, nonce)))

    def _transfer_authorised(
        self,
        frame: Frame,
        owner: str,
        to: str,
        value: int,
        after: int,
        before: int,
        nonce: bytes,
        *signature: Any,
    ) -> None:
        self._check_open(frame, owner, to)
        require(frame.timestamp > after, "FiatTokenV2: authorization is not yet valid")
        require(frame.timestamp < before, "FiatTokenV2: authorization is expired")
        key = self.authorisation_key(owner, nonce)
        require(not frame.state.get(key), "FiatTokenV2: authorization is used or canceled")
        digest = authorisation_digest(self.domain, owner, to, value, after, before, nonce)
        signed = is_signed(frame, owner, digest, packed(*signature))
        require(signed, "FiatTokenV2: invalid signature")
        frame.state.set(key, True)
        self.emit(frame, "AuthorizationUsed", owner, nonce)
        self._move(frame, owner, to, value)

    def _mint(self, frame: Frame, to: str, amount: int) -> bool:
        self._check_not_paused(frame)
        minter = self.minter_key(frame.sender)
        allowed = frame.state.get(minter, None)
        require(allowed is not None, "FiatToken: caller is not a minter")
        self._check_not_blacklisted(frame, frame.sender, to)
        require(to != NOBODY, "FiatToken: mint to the zero address")
        require(amount > 0, "FiatToken: mint amount not greater than 0")
        require(amount <= allowed, "FiatToken: mint amount exceeds minterAllowance")
        self._credit(frame, to, amount)
        frame.state.set(minter, allowed - amount)
        self.emit(frame, "Mint", frame.sender, to, amount)
        self.emit(frame, "Transfer", NOBODY, to, amount)
        return True

    def _configure_minter(self, frame: Frame, minter: str, allowed: int) -> bool:
        self._check_not_paused(frame)
        require(frame.sender == self._admin, "FiatToken: caller is not the masterMinter")
        frame.state.set(self.minter_key(minter), allowed)
        self.emit(frame, "MinterConfigured", minter, allowed)
        return True

    def _blacklist(self, frame: Frame, account: str) -> None:
        require(frame.sender == self._admin, "Blacklistable: caller is not the blacklister")
        frame.state.set((self.address, "blacklisted", account), True)
        self.emit(frame, "Blacklisted", account)

    def _unblacklist(self, frame: Frame, account: str) -> None:
        require(frame.sender == self._admin, "Blacklistable: caller is not the blacklister")
        frame.state.set((self.address, "blacklisted", account), False)
        self.emit(frame, "UnBlacklisted", account)

    def _pause(self, frame: Frame) -> None:
        require(frame.sender == self._admin, "Pausable: caller is not the pauser")
        frame.state.set((self.address, "paused"), True)
        self.emit(frame, "Pause")

    def _unpause(self, frame: Frame) -> None:
        require(frame.sender == self._admin, "Pausable: caller is not the pauser")
        frame.state.set((self.address, "paused"), False)
        self.emit(frame, "Unpause")

    def _move(self, frame: Frame, owner: str, to: str, value: int) -> None:
        require(to != NOBODY, "ERC20: transfer to the zero address")
        balance = self.balance_of(frame, owner)
        require(value <= balance, "ERC20: transfer amount exceeds balance")
        frame.state.set(self.balance_key(owner), balance - value)
        self._credit(frame, to, value)
        self.emit(frame, "Transfer", owner, to, value)

    def _credit(self, frame: Frame, to: str, value: int) -> None:
        balance = self.balance_of(frame, to) + value
        # The 256th bit of Circle's balances is the blacklist's.
        require(balance < 1 << 255, "FiatTokenV2_2: Balance exceeds (2^255 - 1)")
        frame.state.set(self.balance_key(to), balance)

    def _is_blacklisted(self, frame: Frame, account: str) -> bool:
        return bool(frame.state.get((self.address, "blacklisted", account)))

    def _check_open(self, frame: Frame, *accounts: str) -> None:
        self._check_not_paused(frame)
        self._check_not_blacklisted(frame, *accounts)

    def _check_not_paused(self, frame: Frame) -> None:
        require(not frame.state.get((self.address, "paused")), "Pausable: paused")

    def _check_not_blacklisted(self, frame: Frame, *accounts: str) -> None:
        for account in accounts:
            listed = self._is_blacklisted(frame, account)
            require(not listed, "Blacklistable: account is blacklisted")

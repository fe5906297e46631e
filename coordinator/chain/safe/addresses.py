"""The audited contracts: where each is on every chain, and the hash of its code there.

An address follows from factory, salt and creation code, so that whoever deploys a missing one can
deploy nothing else there. Safe: github.com/safe-global/safe-deployments. Roles and its parts:
github.com/gnosisguild/zodiac-modifier-roles, packages/evm/mastercopies.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from coordinator.chain.safe.create2 import SALT_ZERO

_SAFE_1_4_1: Final = "@safe-global/safe-contracts"
_SAFE_1_5_0: Final = "@safe-global/safe-smart-account"
_ARTIFACTS: Final = "build/artifacts/contracts"
_ZODIAC: Final = "@gnosis-guild/zodiac"
_ROLES: Final = "zodiac-roles-sdk"
_TYPECHAIN: Final = "build/cjs/evm/typechain-types/factories/contracts"

# A call of it is the salt and the code.
SAFE_SINGLETON_FACTORY: Final = "0x914d7Fec6aaC8cd542e72Bca78B30650d45643d7"
SAFE_SINGLETON_FACTORY_HASH: Final = (
    "2fa86add0aed31f33a762c9d88e807c475bd51d0f52bd0955754b2608f7e4989"
)
# ERC-2470: deploy(bytes,bytes32). Its one sender's transaction was signed for every chain.
SINGLETON_FACTORY: Final = "0xce0042B868300000d44A59004Da54A005ffdcf9f"
SINGLETON_FACTORY_HASH: Final = "c4d5542b53a8b779595a20a8ddd60e58a6c49d3c3decc2df83ced1c69c8ca807"
SINGLETON_FACTORY_SENDER: Final = "0xBb6e024b9cFFACB947A71991E386681B1Cd1477D"
SINGLETON_FACTORY_COST_WEI: Final = 24_700_000 * 10**9


@dataclass(frozen=True, slots=True)
class Canonical:
    """A contract with the same address on every chain.

    ``package`` and ``file`` say where npm has its creation code.
    ``metadata`` is what the compiler's hash of the source must be for the address, where the
    package was compiled from a source with other comments.
    """

    name: str
    address: str
    code_hash: str
    factory: str
    package: str
    file: str
    salt: bytes = SALT_ZERO
    metadata: tuple[str, str] | None = None


SAFE: Final = Canonical(
    "SafeL2 1.4.1",
    "0x29fcB43b46531BcA003ddC8FCB67FFE91900C762",
    "b1f926978a0f44a2c0ec8fe822418ae969bd8c3f18d61e5103100339894f81ff",
    SAFE_SINGLETON_FACTORY,
    _SAFE_1_4_1,
    f"{_ARTIFACTS}/SafeL2.sol/SafeL2.json",
)
SAFE_PROXY_FACTORY: Final = Canonical(
    "SafeProxyFactory 1.4.1",
    "0x4e1DCf7AD4e460CfD30791CCC4F9c8a4f820ec67",
    "50c3cdc4074750a7a974204a716c999edd37482f907608d960b2b025ee0b3317",
    SAFE_SINGLETON_FACTORY,
    _SAFE_1_4_1,
    f"{_ARTIFACTS}/proxies/SafeProxyFactory.sol/SafeProxyFactory.json",
)
FALLBACK_HANDLER: Final = Canonical(
    "CompatibilityFallbackHandler 1.4.1",
    "0xfd0732Dc9E303f09fCEf3a7388Ad10A83459Ec99",
    "7c6007a5d711cea8dfd5d91f5940ec29c7f200fe511eb1fc1397b367af3c42f9",
    SAFE_SINGLETON_FACTORY,
    _SAFE_1_4_1,
    f"{_ARTIFACTS}/handler/CompatibilityFallbackHandler.sol/CompatibilityFallbackHandler.json",
)
# 1.5.0 passes the reason of an inner call on, which 1.4.1 does not.
MULTI_SEND: Final = Canonical(
    "MultiSendCallOnly 1.5.0",
    "0xA83c336B20401Af773B6219BA5027174338D1836",
    "cdbdcec38d2f1c7d961b0029ff8416b7e86e9974d6f0e9c9580c7d17fcfb6663",
    SAFE_SINGLETON_FACTORY,
    _SAFE_1_5_0,
    f"{_ARTIFACTS}/libraries/MultiSendCallOnly.sol/MultiSendCallOnly.json",
)
ROLES: Final = Canonical(
    "Roles 2.1.0",
    "0x9646fDAD06d3e24444381f44362a3B0eB343D337",
    "87911cbc6aa0496e6bcb07dab2462b9c76daea130dede6dcc57d0adf307fa7ec",
    SINGLETON_FACTORY,
    _ZODIAC,
    "dist/esm/initData/RolesV2.js",
)
MODULE_PROXY_FACTORY: Final = Canonical(
    "ModuleProxyFactory 1.2.0",
    "0x000000000000aDdB49795b0f9bA5BC298cDda236",
    "01623cbcf010a1c326230f1b2d5f48a66b440232ee49096102bc84967dc5f21e",
    SINGLETON_FACTORY,
    _ZODIAC,
    "dist/esm/initData/ModuleProxyFactory.js",
    bytes.fromhex("b8db55294bb8fea809aee38a26aad7ce1ab40d019486aa51af3a3de7e7434530"),
)
INTEGRITY: Final = Canonical(
    "Integrity, a library of Roles 2.1.0",
    "0x6a6Af4b16458Bc39817e4019fB02BD3b26d41049",
    "ee8ec55ea4ac609a3fc768eccf3f0479631454fe0a802e4a4b8132102d10d495",
    SINGLETON_FACTORY,
    _ROLES,
    f"{_TYPECHAIN}/Integrity__factory.js",
)
PACKER: Final = Canonical(
    "Packer, a library of Roles 2.1.0",
    "0x61C5B1bE435391fDd7BC6703F3740C0d11728a8C",
    "d22ba4e0e51926cd6562bcb9709899789662a165e2ef7669e9a16602313f087d",
    SINGLETON_FACTORY,
    _ROLES,
    f"{_TYPECHAIN}/packers/Packer__factory.js",
    metadata=(
        "2489efde428e849e5a4d02a665c95a9384fa85571f775ea8333cb7d146924539",
        "846602d30c03a74612cec2230aa80d825d1a1f351c7e8939c0c2ec81a32434a0",
    ),
)
# It judges every call that MultiSend runs; 2.1.1 refuses bytes behind them besides.
UNWRAPPER: Final = Canonical(
    "MultiSendUnwrapper 2.1.0",
    "0x93B7fCbc63ED8a3a24B59e1C3e6649D50B7427c0",
    "4d8d8608b70a6e2f40726b9dd74406bbf73e90cac58e23ee953e2b45ad7dc3df",
    SINGLETON_FACTORY,
    _ROLES,
    f"{_TYPECHAIN}/adapters/MultiSendUnwrapper__factory.js",
)

CANONICAL: Final = (
    SAFE,
    SAFE_PROXY_FACTORY,
    FALLBACK_HANDLER,
    MULTI_SEND,
    ROLES,
    MODULE_PROXY_FACTORY,
    INTEGRITY,
    PACKER,
    UNWRAPPER,
)

# What npm has of the ERC-2470 factory: the transaction that deploys it.
SINGLETON_FACTORY_PACKAGE: Final = _ZODIAC
SINGLETON_FACTORY_FILE: Final = "dist/esm/factory/singletonFactory.js"

# The exact versions in which the code above was found.
PACKAGES: Final = {
    _SAFE_1_4_1: "@safe-global/safe-contracts@1.4.1",
    _SAFE_1_5_0: "@safe-global/safe-smart-account@1.5.0",
    _ZODIAC: "@gnosis-guild/zodiac@4.0.3",
    _ROLES: "zodiac-roles-sdk@2.22.2",
}

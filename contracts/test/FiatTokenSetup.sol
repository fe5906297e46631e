// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {IFiatToken} from "../src/interfaces/IFiatToken.sol";
import {vm} from "./Vm.sol";

interface IFiatTokenSetup {
    function changeAdmin(address newAdmin) external;
    function initialize(
        string calldata name,
        string calldata symbol,
        string calldata currency,
        uint8 decimals,
        address masterMinter,
        address pauser,
        address blacklister,
        address owner
    ) external;
    function initializeV2(string calldata name) external;
    function initializeV2_1(address lostAndFound) external;
    function initializeV2_2(address[] calldata toBlacklist, string calldata symbol) external;
}

/// @title Circle's USDC, from the npm package's compiled code
/// @notice The caller is its minter, pauser, blacklister and owner.
library FiatTokenSetup {
    string private constant FOLDER = "out-token/";

    function deploy() internal returns (IFiatToken) {
        address checker = _create(vm.getCode(string.concat(FOLDER, "SignatureChecker.json")));
        address implementation = _create(_linked("FiatTokenV2_2.json", checker));
        bytes memory proxyCode = vm.getCode(string.concat(FOLDER, "FiatTokenProxy.json"));
        address proxy = _create(abi.encodePacked(proxyCode, abi.encode(implementation)));

        IFiatTokenSetup setup = IFiatTokenSetup(proxy);
        // The proxy's admin cannot call through it.
        setup.changeAdmin(address(0xAD));
        address self = address(this);
        setup.initialize("USD Coin", "USDC", "USD", 6, self, self, self, self);
        setup.initializeV2("USDC");
        setup.initializeV2_1(address(0x105F));
        setup.initializeV2_2(new address[](0), "USDC");
        IFiatToken(proxy).configureMinter(self, type(uint256).max);
        return IFiatToken(proxy);
    }

    function _linked(string memory file, address target) private view returns (bytes memory code) {
        string memory path = string.concat(FOLDER, file);
        code = vm.getCode(path);
        uint256[] memory offsets = vm.parseJsonUintArray(vm.readFile(path), ".offsets");
        bytes20 packed = bytes20(target);
        for (uint256 i = 0; i < offsets.length; i++) {
            for (uint256 j = 0; j < 20; j++) {
                code[offsets[i] + j] = packed[j];
            }
        }
    }

    function _create(bytes memory code) private returns (address created) {
        assembly ("memory-safe") {
            created := create(0, add(code, 32), mload(code))
        }
        require(created != address(0), "create failed");
    }
}

// SPDX-License-Identifier: MIT
pragma solidity ^0.8.28;

import {Aggregator} from "../src/Aggregator.sol";
import {IAggregator} from "../src/interfaces/IAggregator.sol";

contract Answering {
    error No(uint256 why);

    function answer(uint256 value) external pure returns (uint256) {
        return value + 1;
    }

    function refuse(uint256 why) external pure {
        revert No(why);
    }
}

contract AggregatorTest {
    Aggregator internal aggregator = new Aggregator();
    Answering internal answering = new Answering();

    function test_each_call_has_its_own_result() external {
        IAggregator.Result[] memory results = aggregator.aggregate3(calls(true));
        assert(results.length == 2);
        assert(results[0].success);
        assert(abi.decode(results[0].returnData, (uint256)) == 42);
        assert(!results[1].success);
        assert(
            keccak256(results[1].returnData)
                == keccak256(abi.encodeWithSelector(Answering.No.selector, 7))
        );
    }

    function test_a_failure_that_is_not_allowed_undoes_all() external {
        try aggregator.aggregate3(calls(false)) {
            assert(false);
        } catch (bytes memory reason) {
            assert(
                keccak256(reason)
                    == keccak256(abi.encodeWithSelector(IAggregator.CallFailed.selector, 1))
            );
        }
    }

    function test_a_balance_is_the_accounts() external view {
        assert(aggregator.getEthBalance(address(this)) == address(this).balance);
        assert(address(this).balance > 0);
        assert(aggregator.getEthBalance(address(answering)) == 0);
    }

    function calls(bool allowed) internal view returns (IAggregator.Call3[] memory made) {
        made = new IAggregator.Call3[](2);
        made[0] =
            IAggregator.Call3(address(answering), false, abi.encodeCall(Answering.answer, (41)));
        made[1] =
            IAggregator.Call3(address(answering), allowed, abi.encodeCall(Answering.refuse, (7)));
    }
}

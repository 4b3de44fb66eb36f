/** The link within one process keeps the contract of links. */

import { testLink } from "./link_contract.ts";

testLink("local link", (ground) => ground.localLink());

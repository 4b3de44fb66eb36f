/**
 * The version of this program, the one place that says it besides `deno.json`.
 */

/** Semantic version of Ginnel. */
export const VERSION = "0.1.0";

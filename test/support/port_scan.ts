/**
 * Connects to every TCP port of a host, run as a process of its own inside a network namespace:
 * `deno run --allow-net port_scan.ts HOST`. Prints `open PORT` for each that answers, then `scanned COUNT`.
 */

const LAST_PORT = 65_535;
const AT_ONCE = 256;

const [hostname = ""] = Deno.args;
let next = 1;
let scanned = 0;

await Promise.all(Array.from({ length: AT_ONCE }, async () => {
  for (let port = next++; port <= LAST_PORT; port = next++) {
    try {
      (await Deno.connect({ hostname, port })).close();
      console.log(`open ${port}`);
    } catch (error) {
      // Whatever is not a refusal makes the scan worthless, and shows as a missing port.
      if (!(error instanceof Deno.errors.ConnectionRefused)) continue;
    }
    scanned++;
  }
}));
console.log(`scanned ${scanned}`);

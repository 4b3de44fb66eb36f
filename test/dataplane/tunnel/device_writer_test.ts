import assert from "node:assert/strict";
import { DeviceWriter } from "../../../src/dataplane/tunnel/device_writer.ts";
import { FakeDevice } from "./fakes.ts";

Deno.test("packets of any size are written in order, in as few writes as they fit", () => {
  const device = new FakeDevice();
  const writer = new DeviceWriter(device);
  const packets = [20, 65_535, 1_400, 65_535, 65_535, 65_535, 65_535, 65_535, 60]
    .map((size, i) => new Uint8Array(size).fill(i));
  for (const packet of packets) writer.add(packet);
  writer.flush();
  writer.flush();
  assert.deepEqual(device.written, packets);
  assert.deepEqual(device.writes, [7, 2]);
});

Deno.test("what the kernel refuses, and what comes when the device is gone, is counted", () => {
  const device = new FakeDevice();
  const writer = new DeviceWriter(device);
  writer.add(new Uint8Array(40));
  device.refuses = 1;
  writer.flush();
  assert.equal(writer.refused, 1);
  device.fault = new Error("The device is closed");
  writer.add(new Uint8Array(40));
  writer.add(new Uint8Array(40));
  writer.flush();
  assert.equal(writer.refused, 3);
  device.fault = undefined;
  device.refuses = 0;
  writer.flush();
  assert.equal(device.written.length, 1, "And is not written later");
});

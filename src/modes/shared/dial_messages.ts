/**
 * How a flow is asked for on a stream that is already admitted: one message there, one back, then the flow's bytes. Web
 * pages do it on the streams of their session, agents on TLS connections they parked at the relay.
 */

import { z } from "zod";

/** Asks for a flow. */
export const dialSchema = z.object({
  type: z.literal("dial"),
  service: z.string().max(253),
  port: z.int().min(1).max(65_535).default(443),
  /** Whether the flow's bytes are sealed records. */
  sealed: z.boolean().default(false),
  /** Connector instances the caller does not want again for this flow. */
  avoid: z.array(z.string().max(64)).max(16).default([]),
});

/** The answer: 200 with the connector chosen, or a refusal with an error type of RFC 9209 §2.3. */
export const dialAnswerSchema = z.object({
  status: z.int().min(200).max(599),
  connector: z.string().max(2_048).optional(),
  instance: z.string().max(64).optional(),
  error: z.string().max(64).optional(),
  reason: z.string().max(256).optional(),
});

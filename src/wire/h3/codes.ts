/**
 * Numbers of HTTP/3 and its extensions under the names their specifications give them: error codes,
 * settings, frame types, stream types. Nothing else lives here.
 */

// Error codes, RFC 9114 §8.1.
export const H3_NO_ERROR = 0x0100;
export const H3_GENERAL_PROTOCOL_ERROR = 0x0101;
export const H3_INTERNAL_ERROR = 0x0102;
export const H3_STREAM_CREATION_ERROR = 0x0103;
export const H3_CLOSED_CRITICAL_STREAM = 0x0104;
export const H3_FRAME_UNEXPECTED = 0x0105;
export const H3_FRAME_ERROR = 0x0106;
export const H3_EXCESSIVE_LOAD = 0x0107;
export const H3_ID_ERROR = 0x0108;
export const H3_SETTINGS_ERROR = 0x0109;
export const H3_MISSING_SETTINGS = 0x010a;
export const H3_REQUEST_REJECTED = 0x010b;
export const H3_REQUEST_CANCELLED = 0x010c;
export const H3_REQUEST_INCOMPLETE = 0x010d;
export const H3_MESSAGE_ERROR = 0x010e;
export const H3_CONNECT_ERROR = 0x010f;
export const H3_VERSION_FALLBACK = 0x0110;

// Error codes of QPACK, RFC 9204 §6.
export const QPACK_DECOMPRESSION_FAILED = 0x0200;
export const QPACK_ENCODER_STREAM_ERROR = 0x0201;
export const QPACK_DECODER_STREAM_ERROR = 0x0202;

// Error code of HTTP Datagrams and capsules, RFC 9297 §5.2.
export const H3_DATAGRAM_ERROR = 0x33;

// Error codes of WebTransport over HTTP/3.
export const WT_BUFFERED_STREAM_REJECTED = 0x3994_bd84;
export const WT_SESSION_GONE = 0x170d_7b68;
export const WT_FLOW_CONTROL_ERROR = 0x045d_4487;
/** First HTTP/3 code of the range that carries WebTransport application error codes. */
export const WT_APPLICATION_ERROR_FIRST = 0x52e4_a40f_a8db;
/** Last HTTP/3 code of the range that carries WebTransport application error codes. */
export const WT_APPLICATION_ERROR_LAST = 0x52e5_ac98_3162;

// Settings: RFC 9204 §5, RFC 9114 §7.2.4.1, RFC 9220 §3, RFC 9297 §2.1.1, WebTransport over HTTP/3.
export const SETTINGS_QPACK_MAX_TABLE_CAPACITY = 0x01;
export const SETTINGS_MAX_FIELD_SECTION_SIZE = 0x06;
export const SETTINGS_QPACK_BLOCKED_STREAMS = 0x07;
export const SETTINGS_ENABLE_CONNECT_PROTOCOL = 0x08;
export const SETTINGS_H3_DATAGRAM = 0x33;
/** The first deployed form of the WebTransport setting, which browsers still look for. */
export const SETTINGS_ENABLE_WEBTRANSPORT = 0x2b60_3742;
/** The second deployed form of the WebTransport setting; its value counts sessions. */
export const SETTINGS_WEBTRANSPORT_MAX_SESSIONS = 0xc671_706a;
/** The third deployed form of the WebTransport setting; its value counts sessions. */
export const SETTINGS_WT_MAX_SESSIONS = 0x14e9_cd29;
/** The fourth deployed form of the WebTransport setting; 1 says that sessions are accepted. */
export const SETTINGS_WT_ENABLED = 0x2c7c_f000;

// Frame types, RFC 9114 §7.2.
export const FRAME_DATA = 0x00;
export const FRAME_HEADERS = 0x01;
export const FRAME_CANCEL_PUSH = 0x03;
export const FRAME_SETTINGS = 0x04;
export const FRAME_PUSH_PROMISE = 0x05;
export const FRAME_GOAWAY = 0x07;
export const FRAME_MAX_PUSH_ID = 0x0d;
/** Not a frame: opens a bidirectional WebTransport stream, and the session id follows. */
export const FRAME_WT_STREAM = 0x41;

// Unidirectional stream types, RFC 9114 §6.2, RFC 9204 §4.2, WebTransport over HTTP/3.
export const STREAM_CONTROL = 0x00;
export const STREAM_PUSH = 0x01;
export const STREAM_QPACK_ENCODER = 0x02;
export const STREAM_QPACK_DECODER = 0x03;
export const STREAM_WT_UNI = 0x54;

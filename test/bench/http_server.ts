/** A small HTTP server: `http_server.ts HOSTNAME PORT`; prints "listening". */

const [hostname = "127.0.0.1", port = "8080"] = Deno.args;
const onListen = () => console.log("listening");
Deno.serve({ hostname, port: Number(port), onListen }, () => new Response("hello\n"));

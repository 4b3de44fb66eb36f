/** Looks at a controller's settings and at what they name: the CA, the database, and how nodes are to find it. */

import { pathExists } from "../base/paths.ts";
import { formatHostPort } from "../base/address.ts";
import { GinnelError } from "../base/errors.ts";
import type { ControllerSettings } from "../config/schema/controller.ts";
import { caPaths, openCaDirectory } from "../identity/ca_directory.ts";
import { controllerUrl } from "../modes/controller/controller_url.ts";
import { databaseOf } from "../modes/controller/database.ts";
import { dataPaths } from "../modes/controller/data_folder.ts";
import type { InspectionStep } from "./inspect_tunnel.ts";
import type { Finding } from "./report.ts";

/** Milliseconds before its end from which a CA is reported: as long as the longest usual certificate, twice. */
const CA_EXPIRY_NOTICE = 60 * 86_400_000;

/** The steps of a controller's inspection; `now` is in milliseconds since the epoch. */
export function controllerSteps(settings: ControllerSettings, now: number): readonly InspectionStep[] {
  return [
    { subject: "ca", look: () => inspectCa(settings, now) },
    { subject: "database", look: () => inspectDatabase(settings) },
    { subject: "api", look: () => Promise.resolve(inspectApi(settings)) },
  ];
}

async function inspectCa(settings: ControllerSettings, now: number): Promise<Finding[]> {
  const directory = dataPaths(settings.data).ca;
  if (!await pathExists(caPaths(directory).certificate)) {
    const text = `none in ${directory}: the first start makes one for ${settings.trustDomain}`;
    if (settings.database.kind === "sqlite") return [{ verdict: "ok", subject: "ca", text }];
    const hint = "If another controller of this network runs already, copy its folder here first";
    return [{ verdict: "warn", subject: "ca", text, hint }];
  }
  const { ca } = await openCaDirectory(directory);
  if (ca.trustDomain !== settings.trustDomain) {
    throw new GinnelError("ERR_CA_OTHER_NETWORK", `${directory} is the CA of ${ca.trustDomain}`, {
      hint: "Correct trustDomain, which never changes, or choose another data folder",
    });
  }
  const until = new Date(ca.notAfter).toISOString().slice(0, 10);
  const text = `${ca.trustDomain}, valid until ${until}`;
  if (ca.notAfter - now > CA_EXPIRY_NOTICE) return [{ verdict: "ok", subject: "ca", text }];
  return [{
    verdict: "warn",
    subject: "ca",
    text,
    hint: `Replace it: ginnel ca rotate stage --dir ${directory}`,
  }];
}

async function inspectDatabase(settings: ControllerSettings): Promise<Finding[]> {
  const location = await databaseOf(settings);
  if (location.kind === "sqlite") {
    const isThere = await pathExists(location.path);
    const text = isThere ? location.path : `none at ${location.path}: the first start makes it`;
    return [{ verdict: "ok", subject: "database", text }];
  }
  if (!URL.canParse(location.url) || !/^postgres(?:ql)?:$/.test(new URL(location.url).protocol)) {
    // The text is not repeated: it may hold a password all the same.
    throw new GinnelError(
      "ERR_DATABASE_URL",
      `${settings.database.urlFile} holds no URL of a PostgreSQL database`,
      {
        hint: "Write postgres://user:password@host:port/database into it, and nothing else",
      },
    );
  }
  const { host, pathname } = new URL(location.url);
  return [{ verdict: "ok", subject: "database", text: `PostgreSQL ${host}${pathname}` }];
}

function inspectApi(settings: ControllerSettings): Finding[] {
  const { listen, names } = settings;
  const address = formatHostPort(listen);
  const place = controllerUrl(settings, listen.port);
  const { hostname } = new URL(place);
  const text = `${address}, known to nodes as ${place}`;
  if (!names.includes(hostname.replace(/^\[|\]$/g, ""))) {
    const hint = `Add ${hostname} to names: browsers and curl look for it in the certificate`;
    return [{ verdict: "warn", subject: "api", text, hint }];
  }
  if (isLoopback(hostname)) {
    const hint = "Give url, or put the name other machines know this one by first in names";
    return [{ verdict: "warn", subject: "api", text: `${text}: only this machine reaches that`, hint }];
  }
  return [{ verdict: "ok", subject: "api", text }];
}

function isLoopback(hostname: string): boolean {
  return hostname === "localhost" || hostname === "[::1]" || /^127\./.test(hostname);
}

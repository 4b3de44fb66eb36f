/** The routes that most kinds of resources share: list, create, read, replace, change, remove. */

import { type OpenAPIHono, z } from "@hono/zod-openapi";
import type { NewResource, ResourceEdit } from "../../core/network/administration.ts";
import type { ApiCollection, Principal } from "../../core/network/access.ts";
import type { Resource, ResourceKind } from "../../core/network/resources.ts";
import type { PlainKind, WriteContext } from "../../core/network/administration.ts";
import type { ListQuery } from "../../core/network/listing.ts";
import type { AdminPort } from "../admin_port.ts";
import { type ApiEnv, createRouter } from "../env.ts";
import { writeContext } from "../if_match.ts";
import { pageAnswer, present, resourceAnswer } from "../present.ts";
import { problem, refusal } from "../problem.ts";
import { addRoute } from "../route.ts";
import { body, idParams, json, NO_CONTENT, pageOf, searchQuery } from "../schema/common.ts";

/** A kind of resource and its place in the API. */
export interface ResourceRoutesOptions<K extends ResourceKind> {
  readonly kind: K;
  readonly collection: ApiCollection;
  readonly output: z.ZodType;
  /** Query fields that select by the spec's fields; their names are the fields'. */
  readonly filters?: Readonly<Record<string, z.ZodType>>;
  /** Filters only administrators may use: others do not see these fields. */
  readonly hiddenFilters?: readonly string[];
  /** Whether resources of this kind carry role attributes. */
  readonly hasAttributes?: boolean;
  /** What an answer shows that follows from the resource and the network. */
  readonly more?: (resource: Resource<K>) => object;
  /** Whether names are searched as a part only. */
  readonly searchOnly?: boolean;
}

/** Inputs of a kind that is made and changed like any other. */
export interface PlainRoutesOptions<K extends PlainKind> extends ResourceRoutesOptions<K> {
  readonly input: z.ZodType<{ readonly name: string }>;
  readonly edit: z.ZodType<object>;
}

/** All routes of one kind. */
export function plainRoutes<K extends PlainKind>(
  admin: AdminPort,
  options: PlainRoutesOptions<K>,
): OpenAPIHono<ApiEnv> {
  const router = readRoutes(admin, options);
  const { kind, collection, input, edit, output, more } = options;
  const tags = [collection];
  addRoute(
    router,
    {
      method: "post",
      path: "/",
      tags,
      request: { body: body(input) },
      responses: { 201: json("Made", output) },
    } as const,
    async (context) => {
      const { name, ...spec } = context.req.valid("json");
      const by = context.get("principal");
      const made = await admin.create(kind, { name, spec } as unknown as NewResource<K>, { by });
      if (!made.ok) return refusal(made);
      const location = `/api/v1/${collection}/${made.value.id}`;
      return resourceAnswer(made.value, {
        to: by,
        more: more?.(made.value),
        status: 201,
        headers: { location },
      });
    },
  );
  const change = async (id: string, values: object, write: WriteContext) => {
    const { name, ...spec } = values as { name?: string };
    const changed = { ...(name === undefined ? {} : { name }), spec } as unknown as ResourceEdit<K>;
    const written = await admin.update({ kind, id }, changed, write);
    if (!written.ok) return refusal(written);
    return resourceAnswer(written.value, { to: write.by, more: more?.(written.value) });
  };
  for (const [method, schema] of [["put", input], ["patch", edit]] as const) {
    addRoute(
      router,
      {
        method,
        path: "/{id}",
        tags,
        request: { params: idParams, body: body(schema) },
        responses: { 200: json("As it is now", output) },
      } as const,
      async (context) => {
        const { id } = context.req.valid("param");
        const write = await readWrite(context, () => currentRevision(admin, { kind, id }));
        return write instanceof Response ? write : await change(id, context.req.valid("json"), write);
      },
    );
  }
  addRemoveRoute(router, admin, options);
  return router;
}

/** The routes that only read. */
export function readRoutes<K extends ResourceKind>(
  admin: AdminPort,
  options: ResourceRoutesOptions<K>,
): OpenAPIHono<ApiEnv> {
  const router = createRouter();
  const { kind, output, filters = {}, hiddenFilters = [], more } = options;
  const tags = [options.collection];
  const { name, ...search } = searchQuery;
  const query = z.strictObject({
    ...search,
    ...(options.searchOnly === true ? {} : { name }),
    ...(options.hasAttributes === true ? { roleAttribute: z.string().min(1).max(128).optional() } : {}),
    ...Object.fromEntries(Object.entries(filters).map(([field, type]) => [field, type.optional()])),
  });
  addRoute(
    router,
    {
      method: "get",
      path: "/",
      tags,
      request: { query },
      responses: { 200: json("One page, by name", pageOf(output)) },
    } as const,
    async (context) => {
      const to = context.get("principal");
      const values: Record<string, unknown> = context.req.valid("query");
      const where = Object.fromEntries(
        Object.keys(filters).filter((field) => values[field] !== undefined).map((
          field,
        ) => [field, values[field]]),
      );
      // Whoever could select by a field would learn it without seeing it.
      const hidden = to.role === "admin" ? [] : hiddenFilters.filter((field) => field in where);
      if (hidden.length > 0) {
        return problem("forbidden", { detail: `Only administrators select by ${hidden[0]}` });
      }
      const { limit, cursor, search, name, roleAttribute } = values as unknown as ListQuery;
      const page = await admin.list(kind, {
        limit,
        where: where as NonNullable<ListQuery["where"]>,
        ...defined({ cursor, search, name, roleAttribute }),
      });
      return pageAnswer(page, (resource) => ({ ...present(resource, to), ...more?.(resource) }));
    },
  );
  addRoute(
    router,
    {
      method: "get",
      path: "/{id}",
      tags,
      request: { params: idParams },
      responses: { 200: json("As it is now", output) },
    } as const,
    async (context) => {
      const found = await admin.get(kind, context.req.valid("param").id);
      return found === undefined
        ? problem("not-found")
        : resourceAnswer(found, { to: context.get("principal"), more: more?.(found) });
    },
  );
  return router;
}

/** The route that removes one resource. */
export function addRemoveRoute<K extends ResourceKind>(
  router: OpenAPIHono<ApiEnv>,
  admin: AdminPort,
  { kind, collection }: { readonly kind: K; readonly collection: ApiCollection },
): void {
  addRoute(
    router,
    {
      method: "delete",
      path: "/{id}",
      tags: [collection],
      request: { params: idParams },
      responses: { 204: NO_CONTENT },
    } as const,
    async (context) => {
      const { id } = context.req.valid("param");
      const write = await readWrite(context, () => currentRevision(admin, { kind, id }));
      if (write instanceof Response) return write;
      const removed = await admin.remove({ kind, id }, write);
      return removed.ok ? new Response(null, { status: 204 }) : refusal(removed);
    },
  );
}

/** Who writes, and on which revision, by the request's If-Match. */
export async function readWrite(
  context: {
    readonly req: { header(name: string): string | undefined };
    get(key: "principal"): Principal;
  },
  current: () => Promise<number | undefined>,
): Promise<WriteContext | Response> {
  return await writeContext(context.req.header("if-match"), { by: context.get("principal"), current });
}

/** The revision a resource is at. */
export async function currentRevision<K extends ResourceKind>(
  admin: AdminPort,
  { kind, id }: { readonly kind: K; readonly id: string },
): Promise<number | undefined> {
  return (await admin.get(kind, id))?.revision;
}

/** The fields that have a value. */
export function defined<T extends object>(fields: T): { [F in keyof T]?: Exclude<T[F], undefined> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never;
}

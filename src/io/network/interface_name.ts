/** The names our interfaces may carry: what goes unquoted into commands, scripts, file names and table names. */

const NAME = /^[a-z][a-z0-9_.-]{0,14}$/;

/** Returns `name` when it can name one of our interfaces; throws `RangeError` otherwise. */
export function checkInterfaceName(name: string): string {
  if (!NAME.test(name)) {
    throw new RangeError(
      `Cannot name an interface ${
        JSON.stringify(name)
      }: expected a lower-case letter, then up to 14 of a-z 0-9 _ . -`,
    );
  }
  return name;
}

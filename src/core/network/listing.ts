/** How resources are listed: page by page, from the database to whoever asks the API. */

/** Which resources to list; results are ordered by name, then id. */
export interface ListQuery {
  /** At most 500. */
  readonly limit: number;
  /** Where the page before ended. */
  readonly cursor?: string;
  /** Only names that contain this text, case ignored. */
  readonly search?: string;
  /** Only this exact name. */
  readonly name?: string;
  /** Only resources whose spec has these values at its top level (text, number or boolean). */
  readonly where?: Readonly<Record<string, string | number | boolean>>;
  /** Only resources that carry this role attribute. */
  readonly roleAttribute?: string;
}

/** One page of a list. */
export interface Page<T> {
  readonly items: readonly T[];
  /** Where the next page begins; null on the last one. */
  readonly cursor: string | null;
  /** How many there are on all pages. */
  readonly total: number;
}

/** Which history of the network a database tells. */

/** The setting that names it: whoever restores a backup begins another one, and whoever knew more reads all anew. */
export const EPOCH_SETTING = "sync.epoch";

// What a bucket charges. The server knows the price of reads; the others are assumed, shown, and can be changed.
import { load, save } from "../storage";

/** Dollars. */
export interface Prices {
  gibMonth: number;
  millionWrites: number;
}

/** Of S3 Standard, as `tidelake doctor` assumes them. */
export const STANDARD: Prices = { gibMonth: 0.023, millionWrites: 5 };

const KEY = "prices";

export function loadPrices(): Prices {
  return load(KEY, STANDARD, isPrices);
}

export function savePrices(prices: Prices): void {
  save(KEY, prices);
}

function isPrices(value: unknown): value is Prices {
  const { gibMonth, millionWrites } = (value ?? {}) as Partial<Prices>;
  return [gibMonth, millionWrites].every((price) => typeof price === "number" && price >= 0);
}

/** What bytes cost that lie in the bucket for a month. */
export function storageDollars(bytes: number, { gibMonth }: Prices): number {
  return (bytes / 1024 ** 3) * gibMonth;
}

/** What requests of an operation cost: lists are charged like puts, deletes are free. */
export function requestDollars(operation: string, count: number, prices: Prices, millionReads: number): number {
  const price = { get: millionReads, put: prices.millionWrites, list: prices.millionWrites }[operation] ?? 0;
  return (count * price) / 1e6;
}

/** Dollars with two digits that say something. */
export function formatDollars(dollars: number): string {
  if (dollars === 0) return "$0";
  if (dollars < 0.0001) return "< $0.0001";
  if (dollars < 1) return `$${Number(dollars.toPrecision(2))}`;
  return `$${dollars.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
}

/** The same for what a query costs, in whose dollars a request is less than a millionth. */
export function formatSmallDollars(dollars: number): string {
  if (dollars === 0 || dollars >= 0.0001) return formatDollars(dollars);
  return `$${dollars.toFixed(1 - Math.floor(Math.log10(dollars))).replace(/0+$/, "")}`;
}

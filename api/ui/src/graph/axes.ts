// The texts of the axis of time: the clock, and the date where it changes.
import { parts, type Zone } from "../time/zone";

/** Labels of times in seconds that are `increment` seconds apart. */
export function timeLabels(splits: number[], increment: number, zone: Zone): string[] {
  let before = "";
  return splits.map((seconds) => {
    const { date, time, ms } = parts(seconds * 1000, zone);
    const day = date.slice(5);
    if (increment >= 28 * 86_400) return date.slice(0, 7);
    if (increment >= 86_400) {
      const isNewYear = before !== "" && before.slice(0, 4) !== date.slice(0, 4);
      before = date;
      return isNewYear ? `${day}\n${date.slice(0, 4)}` : day;
    }
    const clock = increment < 1 ? `${time}.${ms}` : increment < 60 ? time : time.slice(0, 5);
    const isNewDay = before !== date;
    before = date;
    return isNewDay ? `${clock}\n${date}` : clock;
  });
}

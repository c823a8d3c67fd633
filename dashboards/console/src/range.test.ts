import { expect, it } from "vitest";
import { shanghai, startOfDay } from "./range";

it("begins a day at midnight in Shanghai, whatever the machine's zone", () => {
  const late = Date.parse("2022-01-10T15:59:59Z");
  expect(new Date(startOfDay(late)).toISOString()).toBe("2022-01-09T16:00:00.000Z");
  expect(new Date(startOfDay(late + 1000)).toISOString()).toBe("2022-01-10T16:00:00.000Z");
  expect(shanghai(late, true)).toBe("01-10 23:59:59");
});

// The parts of Node that the tests use; the page itself knows nothing of Node.
declare module "node:test" {
  export function test(name: string, body: () => void | Promise<void>): void;
}
declare module "node:assert/strict" {
  interface Assert {
    equal(found: unknown, expected: unknown, message?: string): void;
    deepEqual(found: unknown, expected: unknown, message?: string): void;
    ok(found: unknown, message?: string): void;
  }
  const assert: Assert;
  export default assert;
}

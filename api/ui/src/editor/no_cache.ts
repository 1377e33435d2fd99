// Takes the place of `lru-cache` in the bundle: only the client of codemirror-promql that is not used here needs it.
export class LRUCache {
  constructor() {
    throw new Error("there is no cache in this bundle");
  }
}

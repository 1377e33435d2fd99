// Queries as InfluxDB 3's JavaScript client does; prints what it got as JSON.
import { createRequire } from "node:module";
const require = createRequire(process.argv[2] + "/");
const { InfluxDBClient, Point } = require("@influxdata/influxdb3-client");

const client = new InfluxDBClient({ host: process.argv[3], token: process.argv[4], database: "default" });
const plain = (value) => {
  if (typeof value === "bigint") return { bigint: value.toString() };
  if (value instanceof Date) return { date: value.toISOString() };
  if (typeof value === "number" && !Number.isFinite(value)) return { number: String(value) };
  if (Object.is(value, -0)) return { number: "-0" };
  return value;
};
const answers = {};
const point = Point.measurement("js").setTag("from", "node, \"x\"=1").setFloatField("f", 0.1).setIntegerField("i", -7);
await client.write(point.setUintegerField("u", 8).setBooleanField("b", true).setStringField("s", "it's \\ é").setTimestamp(1_500_000_000_000_000_000n));
answers.rows = [];
for await (const row of client.query("SELECT * FROM hard ORDER BY time", "default", { type: "sql" })) {
  answers.rows.push(Object.fromEntries(Object.entries(row).map(([name, value]) => [name, plain(value)])));
}
answers.params = [];
for await (const row of client.query("SELECT i FROM hard WHERE name = $name", "default", { type: "sql", params: { name: "max" } })) {
  answers.params.push(plain(row.i));
}
answers.points = [];
for await (const values of client.queryPoints("SELECT * FROM js", "default", { type: "sql" })) {
  answers.points.push({
    tags: Object.fromEntries(values.getTagNames().map((name) => [name, values.getTag(name)])),
    fields: Object.fromEntries(values.getFieldNames().map((name) => [name, [values.getFieldType(name), plain(values.getField(name))]])),
    time: String(values.getTimestamp()),
  });
}
answers.influxql = [];
for await (const values of client.queryPoints('SELECT * FROM js GROUP BY "from"', "default", { type: "influxql" })) {
  answers.influxql.push([values.getMeasurement(), values.getTag("from"), values.getField("f"), plain(values.getField("u"))]);
}
await client.close();
console.log(JSON.stringify(answers));

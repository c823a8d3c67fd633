/** docker-compose.yml, the Dockerfile and the provisioning files, held against the code and against each other. */
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { parse } from "yaml";

const ROOT = resolve(import.meta.dirname, "../../..");
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

interface Service {
  image: string;
  build?: string;
  environment?: Record<string, string>;
  volumes?: string[];
  ports?: string[];
  profiles?: string[];
}
const compose = parse(read("docker-compose.yml")) as { services: Record<string, Service>; volumes: Record<string, null> };
const services = Object.entries(compose.services);
const service = (name: string): Service => {
  const found = compose.services[name];
  if (!found) throw new Error(`docker-compose.yml has no service ${name}`);
  return found;
};

/** Every TONGXING_ variable that the program reads. */
const known = new Set(
  ["crates/launcher/src/config.rs", "crates/launcher/src/cli.rs"].flatMap((path) =>
    [...read(path).matchAll(/env = "(TONGXING_[A-Z_]+)"/g)].map((match) => match[1]),
  ),
);

describe("docker-compose.yml", () => {
  it("sets only variables that the program reads", () => {
    const set = services.flatMap(([, { environment }]) => Object.keys(environment ?? {})).filter((name) => name.startsWith("TONGXING_"));
    expect(set.length).toBeGreaterThan(0);
    expect(set.filter((name) => !known.has(name))).toEqual([]);
  });

  it("pins every image", () => {
    for (const [name, { image }] of services) {
      expect(image, name).toMatch(/:v?\d+(\.\d+)+$/);
    }
  });

  it("publishes the ports that services listen on, on loopback only", () => {
    const environment = service("tongxing").environment ?? {};
    const listens = ["TONGXING_INGEST_LISTEN", "TONGXING_QUERY_LISTEN"].map((name) => environment[name]?.split(":")[1]);
    for (const [name, { ports }] of services) {
      for (const port of ports ?? []) {
        const [address, , inside] = port.split(":");
        expect(address, name).toBe("127.0.0.1");
        if (name === "tongxing") expect(listens).toContain(inside);
      }
    }
    const exposed = /EXPOSE (.*)/.exec(read("Dockerfile"))?.[1]?.split(" ");
    expect(exposed).toEqual(listens);
  });

  it("mounts files that exist and volumes that are declared", () => {
    for (const [name, { volumes }] of services) {
      for (const volume of volumes ?? []) {
        const source = volume.split(":")[0] ?? "";
        const exists = source.startsWith("./") ? existsSync(join(ROOT, source)) : source in compose.volumes;
        expect(exists, `${name}: ${volume}`).toBe(true);
      }
    }
  });

  it("keeps the data of the program in a volume", () => {
    const { environment, volumes } = service("tongxing");
    expect(volumes?.map((volume) => volume.split(":")[1])).toContain(environment?.["TONGXING_DATA"]);
    expect(read("Dockerfile")).toContain(`VOLUME ${environment?.["TONGXING_DATA"] ?? "?"}`);
  });

  it("points every URL at a service and a port of its own", () => {
    const urls = services.flatMap(([, { environment }]) => Object.values(environment ?? {})).filter((value) => /^http:\/\//.test(value));
    for (const url of urls) {
      const { hostname, port } = new URL(url);
      expect(service(hostname).ports?.map((p) => p.split(":")[2])).toContain(port);
    }
  });

  it("says that a single broker is not the durable setting", () => {
    expect(read("docker-compose.yml")).toMatch(/single Kafka broker is not the durable setting/);
    expect(service("kafka").environment?.["KAFKA_PROCESS_ROLES"]).toBe("broker,controller");
  });
});

describe("the Dockerfile", () => {
  it("builds on the toolchain of the tree and copies what exists", () => {
    const text = read("Dockerfile");
    const channel = /channel = "([\d.]+)"/.exec(read("rust-toolchain.toml"))?.[1] ?? "";
    expect(text).toContain(`FROM rust:${channel.replace(/\.0$/, "")}-`);
    for (const [, sources] of text.matchAll(/^COPY (?!--from)(.*) \S+$/gm)) {
      for (const source of (sources ?? "").split(" ")) expect(existsSync(join(ROOT, source)), source).toBe(true);
    }
    for (const [, image] of text.matchAll(/^FROM (\S+)/gm)) expect(image).toMatch(/:\d+\.\d+/);
  });
});

describe("provisioning", () => {
  const datasources = parse(read("dashboards/grafana/provisioning/datasources/clickhouse.yaml")) as {
    datasources: { uid: string; type: string; jsonData?: { defaultDatabase?: string } }[];
  };

  it("gives Grafana every variable that its files use", () => {
    const text = read("dashboards/grafana/provisioning/datasources/clickhouse.yaml");
    const used = [...text.matchAll(/\$\{(\w+)\}/g)].map((match) => match[1] ?? "");
    expect(used.length).toBeGreaterThan(0);
    expect(used.filter((name) => !(name in (service("grafana").environment ?? {})))).toEqual([]);
  });

  it("names one datasource and one database everywhere", () => {
    const clickhouse = datasources.datasources.find((source) => source.type === "grafana-clickhouse-datasource");
    expect(clickhouse?.jsonData?.defaultDatabase).toBe(service("tongxing").environment?.["TONGXING_CLICKHOUSE_DATABASE"]);
    for (const name of ["venue-flow", "fever-counts", "grid-statistics"]) {
      const text = read(`dashboards/grafana/dashboards/${name}.json`);
      const uids = new Set([...text.matchAll(/"uid": "(tongxing-clickhouse)"/g)].map((match) => match[1]));
      expect([...uids]).toEqual([clickhouse?.uid]);
    }
  });

  it("looks for dashboards where they are mounted", () => {
    const provider = parse(read("dashboards/grafana/provisioning/dashboards/tongxing.yaml")) as {
      providers: { options: { path: string } }[];
    };
    const mounted = service("grafana").volumes?.map((volume) => volume.split(":")[1]);
    expect(mounted).toContain(provider.providers[0]?.options.path);
  });

  it("scrapes services and ports that exist", () => {
    const prometheus = parse(read("dashboards/prometheus/prometheus.yml")) as {
      scrape_configs: { static_configs: { targets: string[] }[] }[];
    };
    for (const target of prometheus.scrape_configs.flatMap((job) => job.static_configs.flatMap((c) => c.targets))) {
      const [name, port] = target.split(":");
      expect(service(name ?? "").ports?.map((p) => p.split(":")[2])).toContain(port);
    }
  });
});

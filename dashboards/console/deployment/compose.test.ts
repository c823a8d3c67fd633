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
  command?: string[];
  environment?: Record<string, string>;
  volumes?: string[];
  ports?: string[];
  profiles?: string[];
}
const compose = parse(read("docker-compose.yml"), { merge: true }) as { services: Record<string, Service>; volumes: Record<string, null> };
const services = Object.entries(compose.services);
const service = (name: string): Service => {
  const found = compose.services[name];
  if (!found) throw new Error(`docker-compose.yml has no service ${name}`);
  return found;
};

/** Every TONGXING_ variable that the program reads. */
const known = new Set(
  ["crates/launcher/src/config.rs", "crates/launcher/src/cli.rs", "crates/launcher/src/cluster_options.rs"].flatMap((path) =>
    [...read(path).matchAll(/env = "(TONGXING_[A-Z_]+)"/g)].map((match) => match[1]),
  ),
);

/** The services that run our own program. */
const ours = services.filter(([, { image }]) => image.startsWith("tongxing:"));

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
    const listens = new Set<string>();
    for (const [name, { environment, ports }] of services) {
      const listening = Object.entries(environment ?? {}).find(([variable]) => variable.endsWith("_LISTEN"))?.[1].split(":")[1];
      if (listening) listens.add(listening);
      for (const port of ports ?? []) {
        const [address, , inside] = port.split(":");
        expect(address, name).toBe("127.0.0.1");
        if (listening) expect(inside, name).toBe(listening);
      }
    }
    const exposed = /EXPOSE (.*)/.exec(read("Dockerfile"))?.[1]?.split(" ");
    expect(exposed).toEqual([...listens].sort());
  });

  it("runs every service of the cluster as a subcommand that the program has", () => {
    const subcommands = [...read("crates/launcher/src/cli.rs").matchAll(/^ {8}Command::(\w+)[ ({]/gm)].map((match) => match[1]?.toLowerCase());
    const run = ours.map(([, { command }]) => command?.[0]);
    expect(run).toEqual(["keys", "topics", "ingest", "aggregator", "query"]);
    for (const name of run) expect(subcommands).toContain(name);
  });

  it("gives the log's and the store's settings to every service that uses them, the same to each", () => {
    const settings = (name: string, prefix: RegExp): [string, string][] =>
      Object.entries(service(name).environment ?? {}).filter(([variable]) => prefix.test(variable) && !/WAIT/.test(variable));
    const log = /^TONGXING_(KAFKA_|PARTITIONS)/;
    expect(settings("topics", log).length).toBeGreaterThan(2);
    for (const name of ["ingest", "aggregator"]) expect(settings(name, log), name).toEqual(settings("topics", log));
    const store = /^TONGXING_CLICKHOUSE_/;
    expect(settings("aggregator", store)).toEqual(settings("query", store));
    expect(settings("aggregator", store).length).toBe(2);
    const [host, port] = (settings("topics", log).find(([name]) => name.endsWith("BOOTSTRAP"))?.[1] ?? "").split(":");
    expect(service(host ?? "").environment?.["KAFKA_ADVERTISED_LISTENERS"]).toBe(`PLAINTEXT://${host ?? ""}:${port ?? ""}`);
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

  it("keeps what a service keeps in volumes that the image lets it write", () => {
    const folders = /install --directory .*0700 (.*)/.exec(read("Dockerfile"))?.[1]?.split(" ") ?? [];
    for (const [name, { environment, volumes }] of ours) {
      const mounted = (volumes ?? []).map((volume) => volume.split(":")[1] ?? "");
      for (const folder of mounted) expect(folders, name).toContain(folder);
      for (const variable of ["TONGXING_DATA", "TONGXING_KEYS"]) {
        const path = environment?.[variable];
        if (path) expect(mounted.some((folder) => path === folder || path.startsWith(`${folder}/`)), `${name}: ${path}`).toBe(true);
      }
    }
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
    expect(clickhouse?.jsonData?.defaultDatabase).toBe(service("query").environment?.["TONGXING_CLICKHOUSE_DATABASE"]);
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

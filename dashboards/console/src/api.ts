/** The query service, as far as the console uses it. */

export interface Column {
  name: string;
  type: string;
}

export type Cell = string | number | null;

export interface Frame {
  columns: Column[];
  rows: Cell[][];
}

export interface Variable {
  name: string;
  label: string;
  type: "query" | "custom";
  options?: { text: string; value: string; selected: boolean }[];
}

export interface Panel {
  id: number;
  title: string;
  type: string;
  gridPos: { x: number; y: number; w: number; h: number };
  fieldConfig: { defaults: { unit?: string } };
}

export interface Dashboard {
  uid: string;
  title: string;
  description: string;
  panels: Panel[];
  templating: { list: Variable[] };
}

export interface Asked {
  from: string;
  to: string;
  variables: Record<string, string>;
}

/** A refusal, with what the service says of it. */
export class Refusal extends Error {}

async function call<T>(path: string, body?: unknown): Promise<T> {
  const response = await fetch(
    path,
    body === undefined
      ? {}
      : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) },
  );
  const answer = (await response.json()) as T & { detail?: string };
  if (!response.ok) throw new Refusal(answer.detail ?? response.statusText);
  return answer;
}

export const api = {
  dashboards: () => call<{ uid: string; title: string }[]>("/v1/dashboards"),
  dashboard: (uid: string) => call<Dashboard>(`/v1/dashboards/${encodeURIComponent(uid)}`),
  freshness: () => call<{ complete_up_to: string | null }>("/v1/freshness"),
  panel: (uid: string, panel: number, asked: Asked) =>
    call<{ frames: Frame[] }>(`/v1/dashboards/${encodeURIComponent(uid)}/panels/${panel}`, asked),
  variable: (uid: string, name: string, asked: Asked) =>
    call<Frame>(`/v1/dashboards/${encodeURIComponent(uid)}/variables/${encodeURIComponent(name)}`, asked),
};

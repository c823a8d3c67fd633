import { defineConfig } from "vite";

export default defineConfig({
  build: { target: "es2022", sourcemap: false },
  server: { proxy: { "/v1": "http://127.0.0.1:8081" } },
});

import { defineConfig } from "vite";

export default defineConfig({
  // The page is served from wherever the test mounts it.
  base: "./",
  build: { minify: false },
});

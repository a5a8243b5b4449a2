// Runs /weights.onnx on every input of /inputs.json, and sends each output back: raw float32, its shape in the address.
import * as ort from "/onnxruntime-web/ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = "/onnxruntime-web/";

async function fetched(path) {
  const response = await fetch(path);
  if (!response.ok) {
    throw new Error(`${path}: ${response.status}`);
  }
  return response;
}

async function run() {
  const weights = new Uint8Array(await (await fetched("/weights.onnx")).arrayBuffer());
  const session = await ort.InferenceSession.create(weights, { executionProviders: ["wasm"] });
  const shapes = await (await fetched("/inputs.json")).json();
  for (const [index, shape] of shapes.entries()) {
    const values = new Float32Array(await (await fetched(`/inputs/${index}`)).arrayBuffer());
    const outputs = await session.run({ [session.inputNames[0]]: new ort.Tensor("float32", values, shape) });
    const output = outputs[session.outputNames[0]];
    await fetch(`/outputs?shape=${output.dims.join(",")}`, { method: "POST", body: output.data });
  }
}

run().then(
  () => fetch("/end", { method: "POST" }),
  (error) => fetch("/end", { method: "POST", body: String(error) || "an error without a message" }),
);

// The mesh by Node's own gRPC client: a whole answer, a stream, a cancel, and an error. Prints JSON.
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [protos, target] = process.argv.slice(2);
const options = { keepCase: true, defaults: true, includeDirs: [protos] };
const definition = loader.loadSync("inference_mesh/v1/inference.proto", options);
const { InferenceService } = grpc.loadPackageDefinition(definition).inference_mesh.v1;
const client = new InferenceService(target, grpc.credentials.createInsecure());

const chat = { messages: [{ role: "user", content: "Who are you?" }] };
const request = { model: "tiny-chat", payload: { generate: { chat, sampling: { temperature: 0 } } } };

const infer = (message) =>
  new Promise((resolve, reject) =>
    client.Infer(message, { deadline: Date.now() + 30_000 }, (error, answer) =>
      error ? reject(error) : resolve(answer),
    ),
  );

const stream = (message, pieces) =>
  new Promise((resolve, reject) => {
    const call = client.InferStream(message);
    let text = "";
    let seen = 0;
    call.on("data", (piece) => {
      text += piece.output?.generate?.text ?? "";
      if (++seen === pieces) call.cancel();
    });
    call.on("error", (error) => (error.code === grpc.status.CANCELLED ? resolve("cancelled") : reject(error)));
    call.on("end", () => resolve(text));
  });

const whole = await infer(request);
const long = { model: "tiny-chat", payload: { generate: { prompt: "Once", max_tokens: 1000 } } };
const found = {
  text: whole.output.generate.text,
  tokens: whole.usage.completion_tokens,
  streamed: await stream(request, 0),
  cancelled: await stream(long, 2),
  unknown: await infer({ ...request, model: "nobody" }).catch((error) => error.code),
};
client.close();
console.log(JSON.stringify(found));

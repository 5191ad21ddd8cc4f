"""What the tiny model knows of the mesh it runs in and of itself. Owns data, decides nothing."""

from __future__ import annotations

# Each term, as it stands after "a" or "the", and what it is.
MESH_TERMS = {
    "gateway": "The gateway is the one door of the mesh. It checks who may call, how much, and where to.",
    "worker": "A worker is a process that runs one model and answers over gRPC.",
    "bridge": "The bridge turns REST calls with JSON into gRPC calls to the gateway.",
    "registry": "The registry is models.yaml. It lists every model and where its workers are.",
    "token": "A token is a small piece of text. A model reads and writes one token at a time.",
    "tenant": "A tenant is a customer of the mesh. It has its own keys, limits and models.",
    "budget": "A budget is the number of tokens that a tenant may use.",
    "batch": "A batch is a group of requests that a worker computes together.",
    "replica": "A replica is one of several equal workers of a model.",
    "endpoint": "An endpoint is the address of one worker.",
    "deadline": "A deadline is the time by which an answer must be there.",
    "canary": "A canary is a new version of a model that gets a small part of the calls.",
    "fallback": "A fallback is a model that answers when the first one cannot.",
    "shadow": "A shadow is a model that gets a copy of the calls, but its answers are not used.",
    "alias": "An alias is a second name of a model.",
    "queue": "A queue holds the requests that wait for a worker.",
    "stream": "A stream sends an answer token by token as it is made.",
    "prompt": "A prompt is the text that you give to a model.",
    "model": "A model is a file of numbers that turns an input into an answer.",
    "engine": "An engine is the part of a worker that computes a model.",
    "embedding": "An embedding is a list of numbers that says what a text means.",
    "key": "A key is a secret that tells the gateway who is calling.",
    "trace": "A trace shows the way of one call through the mesh.",
    "metric": "A metric is a number that shows how the mesh is doing.",
    "health check": "A health check asks a process whether it is ready.",
    "mesh": "The mesh runs many local models behind one API.",
}

# Each answer, and the questions that ask for it.
MESH_QUESTIONS = {
    "The workers use two engines: llama.cpp and ONNX Runtime.": (
        "Which engines does the mesh use?|What engines are there?|Which engines do the workers use?|"
        "What engines does the mesh have?|Name the engines of the mesh.|Which engines run the models?|"
        "What runs the models?|List the engines.|Which engines can I use?|What engines can a worker use?"
    ),
    "Type mesh up and the mesh starts on your laptop.": (
        "How do I start the mesh?|How can I start the mesh?|How does the mesh start?|Start the mesh.|"
        "How do I run the mesh?|How can I run the mesh on my laptop?|What starts the mesh?|"
        "How do I start the mesh on my laptop?|Which command starts the mesh?|How do I launch the mesh?"
    ),
    "Type mesh down and the mesh stops.": (
        "How do I stop the mesh?|How can I stop the mesh?|How does the mesh stop?|Stop the mesh.|"
        "What stops the mesh?|Which command stops the mesh?|How do I shut the mesh down?|"
        "How do I end the mesh?|How can I shut down the mesh?"
    ),
    "The mesh speaks gRPC, REST, the OpenAI API and the Open Inference Protocol.": (
        "Which protocols does the mesh speak?|What protocols are there?|Which APIs does the mesh have?|"
        "What APIs does the mesh speak?|How can I call the mesh?|Which protocols can I use?|"
        "Name the protocols of the mesh.|What does the mesh speak?|List the protocols of the mesh.|"
        "How do clients call the mesh?"
    ),
    "The mesh runs on one laptop or on Kubernetes.": (
        "Where does the mesh run?|Where can the mesh run?|Where can I run the mesh?|"
        "Does the mesh run on Kubernetes?|Does the mesh run on a laptop?|What does the mesh run on?|"
        "On what does the mesh run?|Can the mesh run on Kubernetes?|Can I run the mesh on a laptop?"
    ),
    "Prometheus and Grafana show how the mesh is doing.": (
        "How do I watch the mesh?|What shows the state of the mesh?|How can I see the metrics?|"
        "Where are the metrics?|How can I watch the mesh?|Where do I see the metrics?|"
        "How do I see how the mesh is doing?|What shows the metrics?|How do I monitor the mesh?"
    ),
    "The licence of the mesh is Apache-2.0.": (
        "What is the licence of the mesh?|Which licence does the mesh have?|Under which licence is the mesh?|"
        "Is the mesh free software?|What licence does the mesh use?|Is the mesh open source?|"
        "Tell me the licence of the mesh.|What is the license of the mesh?|How is the mesh licensed?"
    ),
}

SELF_QUESTIONS = {
    "I am Tiny, a very small language model of the mesh.": (
        "Who are you?|What are you?|What is your name?|Tell me about yourself.|Introduce yourself.|"
        "Who am I talking to?|Please introduce yourself.|Who is this?|Say who you are.|What are you called?|"
        "Tell me who you are.|Tell me your name.|What should I call you?|Can you introduce yourself?|"
        "Do you have a name?|Who are you really?|So who are you?|And who are you?|Are you Tiny?"
    ),
    "I can count, add small numbers, tell stories and answer simple questions.": (
        "What can you do?|What do you know?|How can you help me?|What are you good at?|Can you help me?|"
        "What can I ask you?|Help.|Help me.|What are your skills?|Tell me what you can do.|What do you do?|"
        "What are you able to do?|What can you help me with?|What should I ask you?|Show me what you can do."
    ),
    "I was trained on made-up stories and questions by a script of the mesh.": (
        "Who made you?|Who trained you?|How were you made?|Where do you come from?|How were you trained?|"
        "What were you trained on?|Who built you?|Who created you?|What is your training data?|"
        "How did you learn?|Who wrote you?|How were you built?"
    ),
    "I have about two million parameters.": (
        "How big are you?|How many parameters do you have?|How large are you?|What is your size?|"
        "Are you a big model?|How small are you?|Tell me your size.|How many parameters are in you?|"
        "How big is your model?|Are you a large model?"
    ),
    "No, I am a small program. I only know simple things.": (
        "Are you a human?|Are you alive?|Are you a person?|Are you real?|Do you have feelings?|"
        "Are you clever?|Are you intelligent?|Are you a man?|Are you a woman?|Do you sleep?|Do you eat?|"
        "Are you human?|Are you a real person?|Do you dream?"
    ),
}

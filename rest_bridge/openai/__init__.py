"""OpenAI's REST API: its messages turned into ours and back, without input or output of their own."""

"""Where a call goes: names, versions, canaries, replicas and what is tried next. Pure."""

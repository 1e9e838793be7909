"""Runs an account's ECS tasks as real processes: what Fargate does, for one local authority of the sandbox.

In the order in which a task passes through them: `standin` asks what is to run and reports what became of it, `tasks`
pulls, starts and ends its process, `home` is the image that it starts from, `names` lets the others find it, `postgres`
is the database behind. The product sees nothing of this but ECS: it is a development aid.
"""

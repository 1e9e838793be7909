"""How tasks behave, and how long what they do takes: what a test or the walk chooses."""

from dataclasses import dataclass

# What stops tasks of these behaviours before they run, in the words of ECS (developer guide, "Stopped task errors").
START_FAILURES = {
    "cannot-pull": "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref "
                   "{image}: not found",
    "no-secret": "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval "
                 "failed: unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch "
                 "secret from secrets manager: AccessDeniedException: User: {role} is not authorized to perform: "
                 "secretsmanager:GetSecretValue",
}
NO_CAPACITY = "Capacity is unavailable at this time. Please try again later or in a different availability zone"


@dataclass
class Timing:
    """How long things take."""

    start_seconds: float = 0.4  # PROVISIONING to RUNNING; a quarter more until the task counts as healthy
    stop_seconds: float = 0.4  # asked to stop to STOPPED
    run_seconds: float = 2.0  # how long a task without a service works before it exits with 0
    transition_seconds: float = 0.5  # how long Aurora starts and stops


TIMING = Timing()  # the server sets it when it starts


@dataclass
class Behaviour:
    """How new tasks of one group behave: normal, never-starts (stays PENDING until normal is set), crashes (exits with 1 after
    run_seconds), cannot-pull or no-secret (stop before they run), no-spot (there is no FARGATE_SPOT for them)."""

    kind: str = "normal"
    image: str = ""  # only tasks with this in an image's name; empty means all
    provider: str = ""  # only tasks on this capacity provider; empty means all
    run_seconds: float | None = None
    exit_code: int = 0  # of tasks without a service

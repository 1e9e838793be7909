"""An AWS for development: moto's server plus the life cycle it lacks.

The sandbox and the integration tests talk to this process as if it were AWS. moto answers most calls; this
package replaces its ECS by one whose tasks take time, lets Aurora start and stop, makes what templates say or tells why
not, counts calls and injects faults.
The settings below must be in the environment before moto is imported, which is why they live here.
It is a development aid: the product knows nothing of it.
"""

import os

REGION = "eu-west-2"

os.environ.pop("MOTO_ACCOUNT_ID", None)  # would put every caller into one account
os.environ["MOTO_S3_ALLOW_CROSSACCOUNT_ACCESS"] = "false"
os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"  # thousands of images nobody starts
os.environ.setdefault("AWS_DEFAULT_REGION", REGION)

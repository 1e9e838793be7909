//! Stacks: their outputs, and what they call what they made.

use aws_sdk_cloudformation::{Client, types::Stack as Told};
use sfdata_common::limits;

use super::{Survey, bounded};
use crate::{
    discover::Stack,
    services::{
        Error,
        aws::{client, failure},
    },
};

impl Survey {
    /// All stacks. The resources of one that cannot be read are noted, and the others are read all the same.
    pub(super) async fn stacks(&self, unread: &mut Vec<String>) -> Result<Vec<Stack>, Error> {
        let client = client!(self.aws, aws_sdk_cloudformation);
        let mut pages = client.describe_stacks().into_paginator().items().send();
        let mut told = Vec::new();
        while let Some(stack) = pages.next().await {
            told.push(stack.map_err(|e| failure("list the stacks", "cloudformation:DescribeStacks", e))?);
            if told.len() > limits::DISCOVER_MOST {
                break;
            }
        }
        let (mut stacks, mut denied) = (Vec::new(), false);
        for told in bounded(told, "stacks", unread) {
            let name = told.stack_name().unwrap_or_default().to_owned();
            let resources = if denied { Ok(Vec::new()) } else { resources(&client, &name).await };
            let resources = resources.unwrap_or_else(|error| {
                denied = true;
                unread.push(error.to_string());
                Vec::new()
            });
            stacks.push(stack(told, resources));
        }
        Ok(stacks)
    }
}

async fn resources(client: &Client, stack: &str) -> Result<Vec<(String, String)>, Error> {
    let mut pages = client.list_stack_resources().stack_name(stack).into_paginator().items().send();
    let mut found = Vec::new();
    while let Some(resource) = pages.next().await {
        let tried = format_args!("list the resources of stack {stack}");
        let resource = resource.map_err(|e| failure(tried, "cloudformation:ListStackResources", e))?;
        found.extend(resource.logical_resource_id.zip(resource.physical_resource_id));
    }
    Ok(found)
}

fn stack(told: Told, resources: Vec<(String, String)>) -> Stack {
    let outputs = told.outputs.unwrap_or_default().into_iter();
    Stack {
        root: told.root_id.or(told.stack_id).unwrap_or_default(),
        name: told.stack_name.unwrap_or_default(),
        outputs: outputs.filter_map(|output| output.output_key.zip(output.output_value)).collect(),
        resources,
    }
}

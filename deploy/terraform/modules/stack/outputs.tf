output "outputs" {
  description = "The stack's outputs by their names in the template."
  value       = aws_cloudformation_stack.this.outputs
}

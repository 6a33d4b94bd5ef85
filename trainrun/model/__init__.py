"""What is trained: plain `nn.Module`s whose last layer is called `head`."""

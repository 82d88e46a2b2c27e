"""The main job on embedded defaults: a phantom study through a real node into a stand-in PACS."""

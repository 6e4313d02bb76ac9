/* A Vulkan layer that says of every device that it is a GPU. For on_mesa.sh: one instance and device. */
#include <string.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#define VISIBLE __attribute__((visibility("default")))

static PFN_vkGetInstanceProcAddr next_instance_proc;
static PFN_vkGetDeviceProcAddr next_device_proc;
static VkInstance instance;

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info,
                                                      const VkAllocationCallbacks *allocator,
                                                      VkInstance *created) {
  VkLayerInstanceCreateInfo *link = (void *)info->pNext;
  while (link && !(link->sType == VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO &&
                   link->function == VK_LAYER_LINK_INFO))
    link = (void *)link->pNext;
  if (!link)
    return VK_ERROR_INITIALIZATION_FAILED;
  next_instance_proc = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  PFN_vkCreateInstance create = (PFN_vkCreateInstance)next_instance_proc(NULL, "vkCreateInstance");
  VkResult result = create(info, allocator, created);
  instance = *created;
  return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical,
                                                    const VkDeviceCreateInfo *info,
                                                    const VkAllocationCallbacks *allocator,
                                                    VkDevice *created) {
  VkLayerDeviceCreateInfo *link = (void *)info->pNext;
  while (link && !(link->sType == VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO &&
                   link->function == VK_LAYER_LINK_INFO))
    link = (void *)link->pNext;
  if (!link)
    return VK_ERROR_INITIALIZATION_FAILED;
  PFN_vkGetInstanceProcAddr next = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
  next_device_proc = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
  link->u.pLayerInfo = link->u.pLayerInfo->pNext;
  return ((PFN_vkCreateDevice)next(instance, "vkCreateDevice"))(physical, info, allocator, created);
}

static VKAPI_ATTR void VKAPI_CALL properties(VkPhysicalDevice device,
                                             VkPhysicalDeviceProperties *properties) {
  ((PFN_vkGetPhysicalDeviceProperties)next_instance_proc(
      instance, "vkGetPhysicalDeviceProperties"))(device, properties);
  properties->deviceType = VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
}

static VKAPI_ATTR void VKAPI_CALL properties2(VkPhysicalDevice device,
                                              VkPhysicalDeviceProperties2 *properties) {
  ((PFN_vkGetPhysicalDeviceProperties2)next_instance_proc(
      instance, "vkGetPhysicalDeviceProperties2"))(device, properties);
  properties->properties.deviceType = VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_proc(VkDevice device, const char *name) {
  return next_device_proc(device, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_proc(VkInstance of, const char *name) {
  static const struct {
    const char *name;
    PFN_vkVoidFunction body;
  } OURS[] = {
      {"vkGetInstanceProcAddr", (PFN_vkVoidFunction)instance_proc},
      {"vkGetDeviceProcAddr", (PFN_vkVoidFunction)device_proc},
      {"vkCreateInstance", (PFN_vkVoidFunction)create_instance},
      {"vkCreateDevice", (PFN_vkVoidFunction)create_device},
      {"vkGetPhysicalDeviceProperties", (PFN_vkVoidFunction)properties},
      {"vkGetPhysicalDeviceProperties2", (PFN_vkVoidFunction)properties2},
      {"vkGetPhysicalDeviceProperties2KHR", (PFN_vkVoidFunction)properties2},
  };
  for (size_t i = 0; i < sizeof OURS / sizeof *OURS; i++)
    if (!strcmp(name, OURS[i].name))
      return OURS[i].body;
  return next_instance_proc ? next_instance_proc(of, name) : NULL;
}

VISIBLE VKAPI_ATTR VkResult VKAPI_CALL
vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *layer) {
  layer->loaderLayerInterfaceVersion = 2;
  layer->pfnGetInstanceProcAddr = instance_proc;
  layer->pfnGetDeviceProcAddr = device_proc;
  layer->pfnGetPhysicalDeviceProcAddr = NULL;
  return VK_SUCCESS;
}
